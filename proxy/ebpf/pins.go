package ebpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// Versions that had links kept them in a file system for pins. What it still holds goes with what was attached by them.

// pinRoots are where they had it; the second is the machine's in a mount namespace that hides it.
var pinRoots = []string{"/sys/fs/bpf/svcplane", "/proc/1/root/sys/fs/bpf/svcplane"}

// ownPins are the directories of this network namespace.
func ownPins() ([]string, error) {
	cookie, err := namespaceCookie()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, root := range pinRoots {
		dir := filepath.Join(root, fmt.Sprintf("ns-%d", cookie))
		if _, err := os.Stat(dir); err == nil {
			all = append(all, dir)
		}
	}
	return all, nil
}

func removePins() error {
	all, err := ownPins()
	for _, dir := range all {
		err = errors.Join(err, removePinned(dir))
	}
	return err
}

func removePinned(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing what a version before this one has pinned below %s: %w", dir, err)
	}
	_ = os.Remove(filepath.Dir(dir)) // the directory of all instances goes with the last
	return nil
}

// removeOrphanedPins removes those of network namespaces that are gone: a map of devices had the loopback one.
func removeOrphanedPins() {
	for _, root := range pinRoots {
		all, _ := filepath.Glob(filepath.Join(root, "ns-*"))
		for _, dir := range all {
			m, err := ebpf.LoadPinnedMap(filepath.Join(dir, "namespace"), &ebpf.LoadPinOptions{ReadOnly: true})
			if err != nil {
				continue
			}
			var index uint32
			err = m.Lookup(uint32(0), &index)
			m.Close()
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				_ = removePinned(dir) // the next start tries again
			}
		}
	}
}
