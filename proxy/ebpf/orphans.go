package ebpf

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/link"
)

// removeOrphans removes what instances in network namespaces that are gone have left below root: nobody can
// start there again to clean up, and a cgroup takes 64 programs of a kind. One is known by its links to
// devices, all of which ended with the namespace; what cannot be read is left alone.
func removeOrphans(root, own string) {
	instances, _ := filepath.Glob(filepath.Join(root, "svcplane", "ns-*"))
	for _, dir := range instances {
		if dir != own && orphaned(dir) {
			_ = removePins(dir) // the next start tries again
		}
	}
}

func orphaned(dir string) bool {
	pins := filepath.Join(dir, layoutVersion, "links")
	all, err := os.ReadDir(pins)
	if err != nil {
		return false
	}
	ended := 0
	for _, pin := range all {
		if !strings.HasPrefix(pin.Name(), "ingress-") && !strings.HasPrefix(pin.Name(), "egress-") {
			continue
		}
		if !deviceGone(filepath.Join(pins, pin.Name())) {
			return false
		}
		ended++
	}
	return ended > 0
}

func deviceGone(pin string) bool {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return false
	}
	defer l.Close()
	info, err := l.Info()
	return err == nil && info.TCX() != nil && info.TCX().Ifindex == 0
}
