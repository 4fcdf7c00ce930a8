package iptables

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"svcplane/metrics/metricstest"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// sabotage puts programs on PATH that fail every nth write: by turns before it, after it, and after its
// first table. It returns the file that counts them.
func sabotage(t *testing.T, variant Variant, n int) string {
	t.Helper()
	dir := t.TempDir()
	counter := filepath.Join(dir, "count")
	must(t, os.WriteFile(counter, []byte("0"), 0o644))
	for _, family := range []string{"iptables-", "ip6tables-"} {
		for _, program := range []string{"", "-save", "-restore"} {
			name := family + string(variant) + program
			real, err := exec.LookPath(name)
			must(t, err)
			script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\"\n", real)
			if program == "-restore" {
				script = fmt.Sprintf(`#!/bin/sh
i=$(($(cat %[1]s)+1)); echo $i >%[1]s
[ $((i %% %[2]d)) = 0 ] || exec %[3]s "$@"
case $((i / %[2]d %% 3)) in
0) exit 4 ;;
1) %[3]s "$@"; exit 4 ;;
2) sed '/^COMMIT/q' | %[3]s "$@"; exit 4 ;;
esac
`, counter, n, real)
			}
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return counter
}

// TestEveryThirdWriteFails tries again after each failure, as the loop does, and looks at the kernel only then.
func TestEveryThirdWriteFails(t *testing.T) {
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			d := open(t, &proxytest.Lab{}, variant)
			counter := sabotage(t, variant, 3)
			d, err := New(d.cfg)
			must(t, err)
			r := rand.New(rand.NewPCG(9, 10))
			failures := 0
			insist := func(try func() error) {
				for attempt := 0; ; attempt++ {
					err := try()
					if err == nil {
						return
					}
					if failures++; attempt > 4 {
						t.Fatal(err)
					}
				}
			}
			var now proxy.Table
			insist(func() error { return d.Resync(t.Context(), now) })
			for range 10 {
				next := random(r, r.IntN(80))
				change := proxytest.Step(now, next)
				insist(func() error { return d.Sync(t.Context(), change) })
				now = next
				proxytest.CheckDump(t, d, now)
			}
			checkMeters(t, d, len(now.Frontends) > 0)
			insist(func() error { return d.Close(t.Context()) })
			proxytest.CheckDump(t, d, proxy.Table{})
			count, err := os.ReadFile(counter)
			must(t, err)
			if failures < 5 {
				t.Errorf("only %d of %s writes failed", failures, strings.TrimSpace(string(count)))
			}
		})
	}
}

// checkMeters holds that failures and rules are counted as kube-proxy counts them, after many of both.
func checkMeters(t *testing.T, d *Dataplane, serving bool) {
	t.Helper()
	all := metricstest.Gather(t, d)
	const name = "kubeproxy_sync_proxy_rules_iptables_"
	failed, rules := 0.0, 0.0
	for _, family := range []string{"ip_family=IPv4", "ip_family=IPv6"} {
		failed += all.Value(t, name+"restore_failures_total", family) + all.Value(t, name+"partial_restore_failures_total", family)
		rules += all.Value(t, name+"total", family, "table=nat") + all.Value(t, name+"total", family, "table=filter")
	}
	if failed < 1 || failed > all.Value(t, "svcplane_iptables_writes_total") {
		t.Errorf("%v writes of %v failed", failed, all.Value(t, "svcplane_iptables_writes_total"))
	}
	if got := all.Value(t, "svcplane_iptables_rules"); got != rules || got == 0 && serving {
		t.Errorf("%v rules, %v by table", got, rules)
	}
}

// insisting tries again after a failure, as the loop does.
type insisting struct {
	proxy.Dataplane
	failures *int
}

func (p insisting) insist(try func() error) error {
	var err error
	for range 5 {
		if err = try(); err == nil {
			return nil
		}
		*p.failures++
	}
	return err
}

func (p insisting) Sync(ctx context.Context, change proxy.Change) error {
	return p.insist(func() error { return p.Dataplane.Sync(ctx, change) })
}

func (p insisting) Resync(ctx context.Context, table proxy.Table) error {
	return p.insist(func() error { return p.Dataplane.Resync(ctx, table) })
}

func (p insisting) Close(ctx context.Context) error {
	return p.insist(func() error { return p.Dataplane.Close(ctx) })
}

// TestContractWithEveryTenthWriteFailing runs the whole list on tools that fail.
func TestContractWithEveryTenthWriteFailing(t *testing.T) {
	if !proxytest.InChild() {
		t.Parallel()
	}
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			if proxytest.Apart(t) {
				return
			}
			lab := proxytest.NewLab(t)
			d := open(t, lab, variant)
			sabotage(t, variant, 10)
			d, err := New(d.cfg)
			must(t, err)
			failures := 0
			proxytest.Run(t, lab, insisting{d, &failures})
			if failures < 5 {
				t.Errorf("only %d writes failed", failures)
			}
		})
	}
}
