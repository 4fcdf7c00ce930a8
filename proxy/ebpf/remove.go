package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// removeOrphans removes what instances in network namespaces that are gone have left below root: nobody can
// start there again to clean up, and a cgroup takes 64 programs of a kind. What cannot be read is left alone.
func removeOrphans(root, own string) {
	instances, _ := filepath.Glob(filepath.Join(root, "svcplane", "ns-*"))
	for _, dir := range instances {
		if dir != own && orphaned(dir) {
			_ = removePins(dir) // the next start tries again
		}
	}
}

func namespaceNote(dir string) string { return filepath.Join(dir, "namespace") }

// noteNamespace pins what tells others that the network namespace of this process is there: a map with its loopback
// device, which the kernel takes out when that goes, and loopback goes with its namespace only.
func noteNamespace(dir string) error {
	if m, err := ebpf.LoadPinnedMap(namespaceNote(dir), nil); err == nil {
		return m.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening %s: %w", namespaceNote(dir), err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("looking for the loopback device: %w", err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "namespace", Type: ebpf.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("making a map of devices: %w", err)
	}
	defer m.Close()
	// an empty map says that the namespace is gone, so it is filled before anybody sees it
	if err := m.Put(uint32(0), uint32(lo.Attrs().Index)); err != nil {
		return fmt.Errorf("noting the loopback device: %w", err)
	}
	if err := m.Pin(namespaceNote(dir)); err != nil {
		return fmt.Errorf("pinning %s: %w", namespaceNote(dir), err)
	}
	return nil
}

func orphaned(dir string) bool {
	m, err := ebpf.LoadPinnedMap(namespaceNote(dir), &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return false
	}
	defer m.Close()
	var index uint32
	return errors.Is(m.Lookup(uint32(0), &index), ebpf.ErrKeyNotExist)
}

// remove removes all of an instance of this network namespace.
func remove(dir string) error {
	if err := removeFilters(dir, func(*netlink.BpfFilter) bool { return true }); err != nil {
		return err
	}
	return removePins(dir)
}

// removePins removes the links first: from then on nothing reads the maps.
func removePins(dir string) error {
	for _, sub := range []string{"links", ""} {
		if err := os.RemoveAll(filepath.Join(dir, layoutVersion, sub)); err != nil {
			return fmt.Errorf("removing the programs pinned below %s: %w", dir, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing %s: %w", dir, err)
	}
	// the directory of all instances goes with the last
	_ = os.Remove(filepath.Dir(dir))
	return nil
}

// Cleanup removes what an instance of this network namespace left below root (DefaultRoot() when empty), also
// when none is running.
func Cleanup(root string) error {
	if root == "" {
		root = DefaultRoot()
	}
	dir, err := instanceDir(root)
	if err != nil {
		return err
	}
	return remove(dir)
}

// Present says whether an instance of this network namespace has something below root (DefaultRoot() when empty).
func Present(root string) (bool, error) {
	if root == "" {
		root = DefaultRoot()
	}
	dir, err := instanceDir(root)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return filtersPresent()
	}
	return err == nil, err
}
