package disk

import (
	"fmt"
	"syscall"
)

// mostKept is how much of a file system is left to others by whoever writes as much as there is room for.
const mostKept = 64 << 20

// Room is an error that says that a disk is full, a little before it is, to those who write as much as strangers want: images.
func Room(dir string) error {
	s, err := Look(dir)
	if err != nil {
		return err
	}
	keep := min(mostKept, s.Total/20)
	if s.Free < keep || s.MaxFiles > 0 && s.Files < min(2*enoughFiles, s.MaxFiles/20) {
		return fmt.Errorf("%w: %v, and %d of %d inodes; some of it is left to others", syscall.ENOSPC, s, s.Files, s.MaxFiles)
	}
	return nil
}
