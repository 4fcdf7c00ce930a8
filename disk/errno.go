package disk

import (
	"errors"
	"strings"
	"syscall"
)

// NoSpace says whether an error means that nothing can be written where it came from: the disk, its inodes or a quota are
// used up, or the file system has become read-only.
func NoSpace(err error) bool {
	if err == nil {
		return false
	}
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		// some libraries pass them on as text
		if errors.Is(err, errno) || strings.Contains(err.Error(), errno.Error()) {
			return true
		}
	}
	return false
}
