package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// first is how the first process of a PID namespace waits for what its parent has to do between its birth and the program.
type first struct {
	prepare      func(pid int) error
	ours, theirs int // the two ends of a socket
}

// beFirst has the child begin a PID namespace, mount its /proc and wait for prepare.
func (l *childCalls) beFirst(prepare func(pid int) error) error {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket for a process: %w", err)
	}
	l.first = &first{prepare: prepare, ours: ends[0], theirs: ends[1]}
	l.flags |= unix.CLONE_NEWPID
	theirs, buffer := uintptr(ends[1]), l.bytes(make([]byte, 1))
	l.add("", unix.SYS_CLOSE, uintptr(ends[0])) // so that it hears when the parent ends
	l.add("mount its /proc", unix.SYS_MOUNT, l.text("proc"), l.text("/proc"), l.text("proc"), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0)
	l.add("say that its /proc is there", unix.SYS_WRITE, theirs, buffer, 1)
	l.add("wait for its protections", unix.SYS_READ, theirs, buffer, 1)
	l.calls[len(l.calls)-1].least = 1
	return nil
}

// meet lets the child go on once it is prepared. A child that has failed before says so in its report.
func (f *first) meet(pid int) error {
	if f == nil {
		return nil
	}
	unix.Close(f.theirs)
	f.theirs = -1
	if n, err := readRetry(f.ours, make([]byte, 1)); err != nil || n == 0 {
		return err
	}
	if err := f.prepare(pid); err != nil {
		return err
	}
	if _, err := unix.Write(f.ours, []byte{0}); err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	return nil
}

func (f *first) close() {
	if f == nil {
		return
	}
	unix.Close(f.ours)
	if f.theirs >= 0 {
		unix.Close(f.theirs)
	}
}
