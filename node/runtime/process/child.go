package process

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Child is a process that this one started and has to wait for. It leads a session and process group of its
// own (Command.Start).
type Child struct {
	EndGroup bool // with the process, what is left of its group is killed

	pid int

	mu     sync.Mutex
	reaped bool // from then on the pid may be another process's
}

// NewChild is for the pid that Command.Start gave.
func NewChild(pid int) *Child { return &Child{pid: pid} }

// PID is its number, valid until Wait returns.
func (c *Child) PID() int { return c.pid }

// Wait returns its exit code, 128 + signal (and that signal) if one ended it. To be called once.
func (c *Child) Wait() (code int, by unix.Signal, err error) {
	// Without reaping first, so that no signal can go astray between the end and our knowing of it.
	for {
		err := unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return 0, 0, fmt.Errorf("wait for process %d: %w", c.pid, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reaped = true
	if c.EndGroup {
		_ = unix.Kill(-c.pid, unix.SIGKILL) // the zombie still holds the number; nobody there is no error
	}
	var end unix.WaitStatus
	if _, err := unix.Wait4(c.pid, &end, 0, nil); err != nil {
		return 0, 0, fmt.Errorf("reap process %d: %w", c.pid, err)
	}
	if end.Signaled() {
		return 128 + int(end.Signal()), end.Signal(), nil
	}
	return end.ExitStatus(), 0, nil
}

// Signal sends a signal, SIGKILL to its whole process group; after its end it does nothing.
func (c *Child) Signal(sig unix.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	// Errors mean that it is ending; Wait sees that.
	_ = unix.Kill(c.pid, sig)
	if sig == unix.SIGKILL {
		_ = unix.Kill(-c.pid, sig)
	}
}
