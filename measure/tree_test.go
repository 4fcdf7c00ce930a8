package measure

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTree: what is allocated counts, once, and what is mounted does not.
func TestTree(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "a", "file")
	hole := filepath.Join(root, "hole")
	other := filepath.Join(root, "other")
	for _, dir := range []string{filepath.Dir(file), other} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, filepath.Join(root, "same")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hole, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(hole, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", other, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(other, 0); err != nil {
			t.Error(err)
		}
	}()
	if err := os.WriteFile(filepath.Join(other, "big"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTree(t.Context(), root)
	if err != nil || got.Bytes < 1<<20 || got.Bytes > 1<<20+64<<10 || got.Inodes != 4 { // root, a, file, hole
		t.Errorf("the tree takes %+v, %v", got, err)
	}
	if _, err := ReadTree(t.Context(), root+"/none"); err == nil {
		t.Error("a folder that is not there was measured")
	}
	disk, err := ReadDisk(root)
	if err != nil || disk.Capacity < disk.Used || disk.Capacity == 0 {
		t.Errorf("%+v, %v", disk, err)
	}
}

// TestTreesNeverWait: the first who asks gets nothing, and later ones what a walk has found; what has gone is forgotten.
func TestTreesNeverWait(t *testing.T) {
	trees, root := NewTrees(10*time.Millisecond), t.TempDir()
	if _, _, ok := trees.Get(root); ok {
		t.Fatal("nobody has measured it")
	}
	go trees.Run(t.Context())
	await := func(what string, done func() bool) {
		t.Helper()
		for until := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(until) {
				t.Fatal(what)
			}
		}
	}
	var before Tree
	await("it is never measured", func() (ok bool) { before, _, ok = trees.Get(root); return ok })
	if err := os.WriteFile(filepath.Join(root, "file"), make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	await("it is not measured again", func() bool { now, _, _ := trees.Get(root); return now.Bytes >= before.Bytes+1<<16 })
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	await("a folder that has gone is remembered", func() bool { _, _, ok := trees.Get(root); return !ok })
}
