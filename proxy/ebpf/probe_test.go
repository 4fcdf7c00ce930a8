package ebpf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

// TestAnotherCgroup: a start with another cgroup than the one before moves the hooks there.
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
		for cgroup, want := range map[string]int{folder: 1, d.cfg.Cgroup: 0} {
			if own := ownAt(t, cgroup, h); len(own) != want {
				t.Errorf("%s has %d of ours, and should have %d: %s", cgroup, len(own), want, h.name)
			}
		}
	}
	must(t, next.Close(t.Context()))
}
