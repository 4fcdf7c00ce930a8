package measure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Tree is what the files below a folder, and the folder itself, take of their file system.
type Tree struct{ Bytes, Inodes uint64 }

// ReadTree walks a folder. It counts what is allocated, not what lengths say; a file with several names once; and nothing
// that is mounted below.
func ReadTree(ctx context.Context, root string) (t Tree, err error) {
	var top unix.Stat_t
	if err := unix.Lstat(root, &top); err != nil {
		return t, fmt.Errorf("measuring %s: %w", root, err)
	}
	type file struct{ dev, ino uint64 }
	several := map[file]bool{}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var s unix.Stat_t
		if statErr := unix.Lstat(path, &s); statErr != nil || err != nil {
			return nil // it has gone meanwhile
		}
		if s.Dev != top.Dev {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if s.Nlink > 1 && !entry.IsDir() {
			id := file{s.Dev, s.Ino}
			if several[id] {
				return nil
			}
			several[id] = true
		}
		t.Bytes += uint64(s.Blocks) * 512 // stat(2): whatever the size of blocks is
		t.Inodes++
		return nil
	})
	if err != nil {
		return Tree{}, fmt.Errorf("measuring %s: %w", root, err)
	}
	return t, nil
}

// Disk is a file system: octets and inodes, all of them, those that are free to ordinary users, and those in use.
type Disk struct {
	Capacity, Available, Used      uint64
	Inodes, InodesFree, InodesUsed uint64
}

// ReadDisk tells of the file system that a path is on.
func ReadDisk(path string) (Disk, error) {
	var s unix.Statfs_t
	err := unix.Statfs(path, &s)
	for errors.Is(err, unix.EINTR) {
		err = unix.Statfs(path, &s)
	}
	if err != nil {
		return Disk{}, fmt.Errorf("reading the size of the disk at %s: %w", path, err)
	}
	size := uint64(s.Bsize)
	return Disk{Capacity: s.Blocks * size, Available: s.Bavail * size, Used: (s.Blocks - s.Bfree) * size,
		Inodes: s.Files, InodesFree: s.Ffree, InodesUsed: s.Files - s.Ffree}, nil
}
