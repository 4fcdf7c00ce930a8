package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// contender is one Service proxy, or none at all, with what was measured of it.
type contender struct {
	name    string
	words   func(c *cluster, n network) []string // nil: no proxy, its client dials endpoints
	ordered bool                                 // its rules have an order, which its iptables chain shows
	pinned  bool                                 // what it has outlives its network namespace
	network network
	cgroup  cgroup // where programs are attached that translate sockets
	proc    *process
	closer  func()
	ends    ends
	order   []netip.AddrPort // its Services as a packet meets them

	first, middle, last []time.Duration // (a)
	rates, gbits        []float64       // (b), (c)
	changes, committed  []time.Duration // (d)
	starts              []time.Duration // (e)
	cpu                 time.Duration   // (f)
	rss, rssMost        float64
	storm               time.Duration
	samples             map[string][]float64 // (g) and following, of each round
	maps                float64              // MB of maps
}

// The contenders that others are compared with.
const (
	direct      = "direct"
	ourIPTables = "svcplane iptables"
	ourEBPF     = "svcplane eBPF"
	ourLegacy   = "svcplane legacy"
	theirRules  = "kube-proxy iptables"
	theirTables = "kube-proxy nftables"
)

func contenders(o options, prefix, api string, ours cgroup) []*contender {
	kubeProxy := func(mode string) func(*cluster, network) []string {
		return func(c *cluster, n network) []string {
			return []string{o.peer, "--proxy-mode", mode, "--kubeconfig", c.kubeconfig(), "--hostname-override", n.node, "--cluster-cidr", "10.244.0.0/16",
				"--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0"}
		}
	}
	mine := func(more ...string) func(*cluster, network) []string {
		return func(c *cluster, n network) []string {
			return append([]string{o.ours, "--kubeconfig", c.kubeconfig(), "--node-name", n.node, "--node-ip", n.nodeIP(),
				"--state", filepath.Join(c.dir, n.node+".json"), "--pod-namespaces", n.client + "," + n.pod}, more...)
		}
	}
	all := []*contender{
		{name: direct},
		{name: ourIPTables, words: mine("--variant", "nft")},
		{name: ourEBPF, words: mine("--mode", "ebpf", "--cgroup", string(ours)), cgroup: ours, pinned: true},
		{name: theirRules, words: kubeProxy("iptables"), ordered: true},
		{name: theirTables, words: kubeProxy("nftables")},
	}
	if o.legacy {
		all = append(all, &contender{name: ourLegacy, words: mine("--variant", "legacy")})
	}
	all = slices.DeleteFunc(all, func(k *contender) bool { return !o.asked(k.name) })
	for i, k := range all {
		id := fmt.Sprintf("%s-%d", prefix, i+1)
		k.network = network{api: api, node: id + "n", client: id + "c", pod: id + "p", lan: id + "l", index: i + 1}
		k.samples = map[string][]float64{}
	}
	return all
}

// asked says whether a contender takes part.
func (o options) asked(name string) bool {
	for start := range strings.SplitSeq(o.only, ",") {
		if strings.HasPrefix(name, start) {
			return true
		}
	}
	return name == ourEBPF
}

// find returns nil for one that does not take part.
func find(all []*contender, name string) *contender {
	i := slices.IndexFunc(all, func(k *contender) bool { return k.name == name })
	if i < 0 {
		return nil
	}
	return all[i]
}

func (k *contender) client() place { return place{k.network.client, k.cgroup} }
func (k *contender) pod() place    { return place{k.network.pod, k.cgroup} }

func (k *contender) up() (err error) {
	if err = k.network.up(); err != nil {
		return err
	}
	closeAll, err := serve(k.pod())
	if err != nil {
		return err
	}
	if err = k.pod().do(func() (err error) { k.ends, err = openEnds(); return err }); err != nil {
		closeAll()
		return err
	}
	k.closer = func() { closeAll(); k.ends.close() }
	return nil
}

func (k *contender) begin(c *cluster) (err error) {
	k.proc, err = start(k.network.node, k.log(c), k.words(c, k.network)...)
	return err
}

func (k *contender) log(c *cluster) string { return filepath.Join(c.dir, k.network.node+".log") }

// said is the end of what its process wrote.
func (k *contender) said(c *cluster) string {
	text, err := os.ReadFile(k.log(c))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

func (k *contender) down(o options) {
	if k.proc != nil {
		k.proc.end()
		k.proc = nil
	}
	if k.closer != nil {
		k.closer()
		k.closer = nil
	}
	if k.pinned {
		_ = exec.Command("nsenter", "--net=/run/netns/"+k.network.node, o.ours, "--cleanup").Run()
	}
	k.network.down()
}

func (k *contender) pause() {
	if k.proc != nil {
		k.proc.signal(syscall.SIGSTOP)
	}
}

func (k *contender) resume() { k.proc.signal(syscall.SIGCONT) }

func to(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), 80) }

// dialled is what the client dials for a Service.
func (k *contender) dialled(c *cluster, at netip.AddrPort) netip.AddrPort {
	if k.words == nil {
		return c.behind(at)
	}
	return at
}

// start (e): from the start of the process in a namespace without rules until Services answer.
func (k *contender) start(ctx context.Context, c *cluster, deadline time.Duration) error {
	if k.words == nil {
		return nil
	}
	return k.client().do(func() error {
		began := time.Now()
		if err := k.begin(c); err != nil { // in the cgroup of this thread
			return err
		}
		for _, i := range []int{0, len(c.services) / 2, len(c.services) - 1} {
			if err := await(ctx, to(c.services[i]), c.letterOf(i), began.Add(deadline)); err != nil {
				return err
			}
		}
		k.starts = append(k.starts, time.Since(began))
		return nil
	})
}

var ruleOfService = regexp.MustCompile(`(?m)^-A KUBE-SERVICES -d (\S+)/32 .*--dport (\d+) -j KUBE-SVC`)

// sorted are the addresses of the Services in the order in which a packet meets them.
func (k *contender) sorted(c *cluster) ([]netip.AddrPort, error) {
	known := map[netip.AddrPort]bool{}
	for _, ip := range c.services {
		known[to(ip)] = true
	}
	for _, s := range c.specials {
		for _, port := range []uint16{dialExchange, dialStream, dialDNS} {
			known[netip.AddrPortFrom(netip.MustParseAddr(s.ip), port)] = true
		}
	}
	var all []netip.AddrPort
	if !k.ordered {
		for at := range known {
			all = append(all, at)
		}
		slices.SortFunc(all, netip.AddrPort.Compare)
		return all, nil
	}
	out, err := exec.Command("nsenter", "--net=/run/netns/"+k.network.node, "iptables-save", "-t", "nat").Output()
	if err != nil {
		return nil, fmt.Errorf("listing kube-proxy's rules: %w", err)
	}
	for _, m := range ruleOfService.FindAllStringSubmatch(string(out), -1) {
		addr, bad := netip.ParseAddr(m[1])
		port, worse := strconv.ParseUint(m[2], 10, 16)
		if err := errors.Join(bad, worse); err != nil {
			return nil, fmt.Errorf("reading kube-proxy's rules: %w", err)
		}
		if at := netip.AddrPortFrom(addr, uint16(port)); known[at] {
			all = append(all, at)
			delete(known, at)
		}
	}
	if len(known) != 0 {
		return nil, fmt.Errorf("kube-proxy has no rules for %d services", len(known))
	}
	return all, nil
}

// ordinary are those of the Services that say a letter.
func (k *contender) ordinary() []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(k.order), func(at netip.AddrPort) bool { return at.Port() != 80 })
}

// special is the special Service on a port that stands nearest to the middle.
func (k *contender) special(port uint16) (best netip.AddrPort) {
	distance := len(k.order)
	for i, at := range k.order {
		if d := max(2*i-len(k.order), len(k.order)-2*i); at.Port() == port && d <= distance {
			best, distance = at, d
		}
	}
	return best
}

// traffic (a), (b), (c) of one round.
func (k *contender) traffic(c *cluster, n int, period time.Duration) error {
	order := k.ordinary()
	for _, s := range []struct {
		at netip.AddrPort
		to *[]time.Duration
	}{{order[0], &k.first}, {order[len(order)/2], &k.middle}, {order[len(order)-1], &k.last}} {
		took, err := connects(k.client(), k.dialled(c, s.at), n)
		if err != nil {
			return err
		}
		*s.to = append(*s.to, took...)
	}
	r, err := rate(k.client(), k.dialled(c, order[len(order)-1]), period)
	if err != nil {
		return err
	}
	g, err := throughput(k.client(), k.dialled(c, k.special(dialStream)), period)
	k.rates, k.gbits = append(k.rates, r), append(k.gbits, g)
	return err
}
