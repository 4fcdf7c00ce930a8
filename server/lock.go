package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"svcplane/disk"
)

// dataLock is a data directory that this process has to itself. The kernel frees it with the process, however
// that ends.
type dataLock struct {
	file *os.File
	made string // the topmost directory that did not exist before; empty if all did
}

// lockDataDir makes the data directory (0700) if need be and takes it.
func lockDataDir(dir string) (*dataLock, error) {
	l := &dataLock{made: missing(dir)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory %s: %w: choose another with --data-dir", dir, err)
	}
	if err := checkLayout(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	var err error
	if l.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600); err != nil {
		l.abandon()
		return nil, fmt.Errorf("data directory %s is not writable: %w: mend its permissions or choose another with --data-dir", dir, err)
	}
	if err := unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		l.file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s belongs to a running svcplane%s: stop that one or choose another with --data-dir", dir, lockOwner(path))
		}
		return nil, fmt.Errorf("locking data directory %s: %w", dir, err)
	}
	err = errors.Join(os.Chmod(dir, 0o700), l.file.Truncate(0))
	if err == nil {
		if _, err = l.file.WriteString(strconv.Itoa(os.Getpid()) + "\n"); disk.NoSpace(err) {
			err = nil // the number is for people, and a start on a full disk is worth more
		}
	}
	if err != nil {
		l.abandon()
		return nil, fmt.Errorf("data directory %s: %w: mend its permissions, make room, or choose another with --data-dir", dir, err)
	}
	return l, nil
}

// missing is the topmost directory on the way to dir that does not exist, empty if all do.
func missing(dir string) string {
	top := ""
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := os.Lstat(d); !errors.Is(err, os.ErrNotExist) || d == filepath.Dir(d) {
			return top
		}
		top = d
	}
}

// release lets another process have the directory.
func (l *dataLock) release() { l.file.Close() }

// abandon releases a directory that was not used and removes it if it was made for that.
func (l *dataLock) abandon() {
	if l.file != nil {
		l.file.Close()
	}
	if l.made != "" {
		os.RemoveAll(l.made)
	}
}

func lockOwner(path string) string {
	data, err := os.ReadFile(path)
	if pid := strings.TrimSpace(string(data)); err == nil && pid != "" {
		return " (pid " + pid + ")"
	}
	return ""
}
