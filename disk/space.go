package disk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Space is what a file system has left.
type Space struct {
	Free, Total     int64  // bytes, as df shows them: without what is kept for root
	Files, MaxFiles uint64 // inodes that are free, and all; zero where there is no limit
	ReadOnly        bool
}

// Look asks the kernel.
func Look(dir string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Space{}, fmt.Errorf("looking at the disk of %s: %w", dir, err)
	}
	return Space{
		Free: int64(s.Bavail) * int64(s.Bsize), Total: int64(s.Blocks) * int64(s.Bsize), // 32 bits wide on some machines
		Files: s.Ffree, MaxFiles: s.Files, ReadOnly: s.Flags&unix.ST_RDONLY != 0,
	}, nil
}

// String says how much is free.
func (s Space) String() string { return fmt.Sprintf("%s of %s are free", size(s.Free), size(s.Total)) }

// The marks: below the first nothing may grow, above the second it may again.
const (
	lowSpace, enoughSpace = 32 << 20, 48 << 20
	lowFiles, enoughFiles = 256, 512
)

// lack says what is missing, empty if nothing is. Short says that something was missing a moment ago.
func (s Space) lack(short bool) string {
	space, files := int64(lowSpace), uint64(lowFiles)
	if short {
		space, files = enoughSpace, enoughFiles
	}
	switch {
	case s.ReadOnly:
		return "is read-only: make it writable again (dmesg says why the kernel may have done that)"
	case s.Free < space:
		return fmt.Sprintf("is full: %v, and %s are needed: make room there", s, size(space))
	case s.MaxFiles > 0 && s.Files < files:
		return fmt.Sprintf("is full: %d of %d inodes are free, and %d are needed: remove files there", s.Files, s.MaxFiles, files)
	}
	return ""
}

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
