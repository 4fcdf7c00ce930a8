package preload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// changes are what says that a file may have become ready, or has gone.
const changes = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_CREATE | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// watch tells until ctx ends that something in a directory has changed. It closes the channel when the directory itself goes.
func watch(ctx context.Context, dir string) (<-chan struct{}, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	events := os.NewFile(uintptr(fd), "inotify") // non-blocking, so that closing it ends a read
	if _, err := unix.InotifyAddWatch(fd, dir, changes|unix.IN_ONLYDIR); err != nil {
		events.Close()
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	context.AfterFunc(ctx, func() { events.Close() })
	changed := make(chan struct{}, 1)
	go func() {
		defer close(changed)
		defer events.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := events.Read(buf)
			if err != nil || gone(buf[:n]) {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, nil
}

// gone says whether one of the events is that the directory is no more where it was.
func gone(raw []byte) bool {
	for len(raw) >= unix.SizeofInotifyEvent {
		mask, length := binary.NativeEndian.Uint32(raw[4:]), binary.NativeEndian.Uint32(raw[12:])
		if mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0 {
			return true
		}
		raw = raw[min(len(raw), unix.SizeofInotifyEvent+int(length)):]
	}
	return false
}

// written says whether somebody has a file open for writing. The kernel knows: it gives out no read lease then. known is
// false where the file system has no leases.
func written(f *os.File) (open, known bool) {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		return false, true
	}
	return errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EAGAIN)
}
