package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/disk"
)

// smallDisk mounts a file system of a size that the test may fill.
func smallDisk(t *testing.T, bytes string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("a file system can only be mounted as root")
	}
	dir := tempDir(t)
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+bytes))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill leaves nothing of a file system.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for chunk := make([]byte, 1<<20); ; {
		if _, err := f.Write(chunk); err == nil {
			continue
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if len(chunk) == 1 {
			return func() { os.Remove(path) }
		}
		chunk = chunk[:len(chunk)/2]
	}
}

// TestStoreGoesOnWithoutSpace fills the disk under a store: what it has kept for itself carries several thousand writes, it
// survives a SIGKILL's kind of end and a restart without any space, and has everything at the end.
func TestStoreGoesOnWithoutSpace(t *testing.T) {
	small := smallDisk(t, "160m")
	dir := filepath.Join(small, "store")
	s, err := open(t, dir)
	must(t, err)
	must(t, s.Reserve())
	c := client(t, s)
	free := fill(t, small)
	for i := range 20 { // more than one segment of the log
		put(t, c, "key"+string(rune('a'+i)), strings.Repeat("v", 1<<20))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if i%4 == 3 { // what is gone makes room for what comes
			got, err := c.Delete(ctx, "key"+string(rune('a'+i-1)))
			must(t, err)
			_, err = c.Compact(ctx, got.Header.Revision)
			must(t, err)
		}
		cancel()
	}
	if err := s.Reserve(); err == nil || !disk.NoSpace(err) {
		t.Errorf("the reserve is used and cannot be filled, but: %v", err)
	}
	if n := count(t, c); n != 15 {
		t.Errorf("%d keys", n)
	}
	free()
	must(t, s.Reserve())
	put(t, c, "keyz", "v")
	s.Close()

	s, err = open(t, dir)
	must(t, err)
	if n := count(t, client(t, s)); n != 16 {
		t.Errorf("%d keys after a restart", n)
	}
	s.Close()
}

// TestStartOnAFullDisk: a new store says what is full; one with its reserve opens.
func TestStartOnAFullDisk(t *testing.T) {
	small := smallDisk(t, "160m")
	dir := filepath.Join(small, "store")
	must(t, os.Mkdir(dir, 0o700))
	free := fill(t, small)
	began := time.Now()
	_, err := open(t, dir)
	if err == nil || !strings.Contains(err.Error(), "is full: 0 KiB of 160 MiB are free") || !strings.Contains(err.Error(), "make room") || time.Since(began) > 10*time.Second {
		t.Errorf("a new store on a full disk, after %v: %v", time.Since(began), err)
	}
	free()
	must(t, os.RemoveAll(dir))
	s, err := open(t, dir)
	must(t, err)
	put(t, client(t, s), "key", "v")
	must(t, s.Reserve())
	fill(t, small)
	s.Close()
	fill(t, small) // a stopped store keeps its reserve, too
	s, err = open(t, dir)
	if err != nil {
		t.Fatalf("with its reserve: %v", err)
	}
	put(t, client(t, s), "key2", "v")
	s.Close()
}
