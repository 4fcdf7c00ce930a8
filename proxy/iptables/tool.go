package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	goiptables "github.com/coreos/go-iptables/iptables"
)

// Variant is which of the kernel's two rule stores iptables works on.
type Variant string

const (
	// NFT is iptables over nf_tables.
	NFT Variant = "nft"
	// Legacy is iptables over x_tables.
	Legacy Variant = "legacy"
)

// callTimeout bounds one call; waiting for another holder of the lock counts.
const (
	callTimeout = 60 * time.Second
	lockSeconds = "20"
)

// tool runs the programs of one variant and address family.
type tool struct {
	variant Variant
	base    string // "/usr/sbin/ip6tables-nft"
	ipv6    bool
}

func families(ipv6 bool) []bool {
	if ipv6 {
		return []bool{false, true}
	}
	return []bool{false}
}

// findTool looks for the programs of a variant: iptables-nft-restore and its siblings, or, where they are
// not installed under that name, plain iptables-restore if it is of this variant.
func findTool(variant Variant, ipv6 bool) (tool, error) {
	name := "iptables"
	if ipv6 {
		name = "ip6tables"
	}
	restore, err := lookPath(name + "-" + string(variant) + "-restore")
	if err != nil {
		plain, plainErr := lookPath(name + "-restore")
		if plainErr != nil {
			return tool{}, plainErr
		}
		is, versionErr := variantOf(context.Background(), plain)
		if versionErr != nil {
			return tool{}, versionErr
		}
		if is != variant {
			return tool{}, err
		}
		restore = plain
	}
	return tool{variant: variant, base: strings.TrimSuffix(restore, "-restore"), ipv6: ipv6}, nil
}

func lookPath(name string) (string, error) {
	found, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("finding %s: it is not on PATH: install iptables (Debian: apt-get install iptables), or start with --proxy-mode ebpf", name)
	}
	return found, nil
}

// variantOf asks a program, which says "iptables-restore v1.8.9 (nf_tables)", or before 1.8 nothing in
// parentheses.
func variantOf(ctx context.Context, restore string) (Variant, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	version, err := exec.CommandContext(ctx, restore, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", restore, err)
	}
	if strings.Contains(string(version), "nf_tables") {
		return NFT, nil
	}
	return Legacy, nil
}

// detect finds the variant that this machine uses: the one that holds rules, else what "iptables" stands for.
func detect(ctx context.Context) (Variant, error) {
	restore, err := lookPath("iptables-restore")
	if err != nil {
		return "", err
	}
	usual, err := variantOf(ctx, restore)
	if err != nil {
		return "", err
	}
	other := map[Variant]Variant{NFT: Legacy, Legacy: NFT}[usual]
	here, there := foreignRules(ctx, usual), foreignRules(ctx, other)
	switch {
	case here > 0 && there > 0:
		return "", fmt.Errorf("choosing between iptables-nft and iptables-legacy: both hold rules (%s %d, %s %d), and what one accepts the other may drop: move them to one of the two", usual, here, other, there)
	case there > 0:
		return other, nil
	}
	return usual, nil
}

// foreignRules counts rules of others in the tables that exist; a variant that is not installed has none.
func foreignRules(ctx context.Context, variant Variant) int {
	count := 0
	for _, ipv6 := range families(true) {
		t, err := findTool(variant, ipv6)
		if err != nil {
			continue
		}
		text, err := t.save(ctx)
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "-A ") && !strings.Contains(line, prefix) {
				count++
			}
		}
	}
	return count
}

// existing lists the tables among ours that are there, without making one: asking legacy iptables about a
// table creates it.
func (t tool) existing() []string {
	file := "/proc/thread-self/net/ip_tables_names"
	if t.ipv6 {
		file = "/proc/thread-self/net/ip6_tables_names"
	}
	names, err := os.ReadFile(file)
	if err != nil {
		return nil // the kernel has no x_tables, or they were not used
	}
	var found []string
	for _, table := range []string{filter, nat} {
		if slices.Contains(strings.Fields(string(names)), table) {
			found = append(found, table)
		}
	}
	return found
}

// save prints the tables that there are.
func (t tool) save(ctx context.Context) (string, error) {
	if t.variant == NFT {
		return t.call(ctx, nil, "-save")
	}
	var all strings.Builder
	for _, table := range t.existing() {
		text, err := t.call(ctx, nil, "-save", "-t", table)
		if err != nil {
			return "", err
		}
		all.WriteString(text)
	}
	return all.String(), nil
}

// read returns what our two tables hold.
func (t tool) read(ctx context.Context) (state, error) {
	text, err := t.save(ctx)
	if err != nil {
		return state{}, err
	}
	return parseSave(text), nil
}

// restore applies text in one transaction for each table in it.
func (t tool) restore(ctx context.Context, text string) error {
	if text == "" {
		return nil
	}
	_, err := t.call(ctx, []byte(text), "-restore", "--noflush", "-w", lockSeconds)
	return err
}

// failedLine is how iptables-restore says what it did not like.
var failedLine = regexp.MustCompile(`line:? (\d+)|Error occurred at line: (\d+)`)

func (t tool) call(ctx context.Context, input []byte, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, t.base+program, args...)
	var stdout, stderr bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), &stdout, &stderr
	err := command.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	what := strings.Join(strings.Fields(stderr.String()), " ")
	if m := failedLine.FindStringSubmatch(what); m != nil {
		n, _ := strconv.Atoi(m[1] + m[2])
		if lines := strings.Split(string(input), "\n"); n >= 1 && n <= len(lines) {
			what = fmt.Sprintf("%s: %q", what, lines[n-1])
		}
	}
	return "", fmt.Errorf("running %s: %w: %s", filepath.Base(t.base)+program, err, what)
}

// randomFully says whether this version can choose the masqueraded port at random, so that two connections
// that start together do not choose the same one.
func (t tool) randomFully() (bool, error) {
	family := goiptables.ProtocolIPv4
	if t.ipv6 {
		family = goiptables.ProtocolIPv6
	}
	ipt, err := goiptables.New(goiptables.Path(t.base), goiptables.IPFamily(family))
	if err != nil {
		return false, fmt.Errorf("asking %s for its version: %w", t.base, err)
	}
	return ipt.HasRandomFully(), nil
}
