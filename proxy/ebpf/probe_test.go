package ebpf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"

	"svcplane/proxy/proxytest"
)

// TestProve: the probe passes where the programs are in the path, and says so where they are not.
func TestProve(t *testing.T) {
	lab, d := lived(t)
	must(t, d.Prove(t.Context()))
	proxytest.CheckDump(t, d, lab.Table(web(lab, "a")...))
	folder := filepath.Join(d.cfg.Cgroup, fmt.Sprintf("spt-ebpf-%d", os.Getpid()))
	must(t, os.Mkdir(folder, 0o755))
	defer os.Remove(folder)
	cfg := d.cfg
	cfg.Cgroup = folder
	elsewhere, err := New(cfg)
	must(t, err)
	for range 2 { // with and without what another process has attached
		if err := elsewhere.Prove(t.Context()); err == nil || !strings.Contains(err.Error(), folder) {
			t.Errorf("this process is not in that cgroup, and the probe says: %v", err)
		}
		must(t, d.Prove(t.Context())) // it goes on
		must(t, d.Close(t.Context()))
	}
	must(t, elsewhere.Close(t.Context()))
}

// TestAnotherCgroup: who is told another one than the process before moves the hooks there.
func TestAnotherCgroup(t *testing.T) {
	_, d := lived(t)
	folder := filepath.Join(d.cfg.Cgroup, fmt.Sprintf("spt-ebpf-%d", os.Getpid()))
	must(t, os.Mkdir(folder, 0o755))
	defer os.Remove(folder)
	enter := func(cgroup string) {
		must(t, os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), fmt.Appendln(nil, os.Getpid()), 0))
	}
	enter(folder)
	defer enter(d.cfg.Cgroup)
	cfg := d.cfg
	cfg.Cgroup = folder
	next, err := New(cfg)
	must(t, err)
	must(t, next.Prove(t.Context()))
	for _, h := range socketHooks() {
		l, err := link.LoadPinnedLink(filepath.Join(next.kernel.dir, "links", h.name), nil)
		must(t, err)
		if ofAnother(l, folder) {
			t.Errorf("%s is attached elsewhere", h.name)
		}
		must(t, l.Close())
	}
	must(t, next.Close(t.Context()))
}
