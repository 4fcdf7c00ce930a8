package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// OnThread runs fn on an OS thread of its own, with its own root and working directory, and returns its
// error. The thread ends with fn, so fn may change the thread's namespaces as it likes.
func OnThread(fn func() error) error {
	done := make(chan error, 1)
	go onThread(fn, done)
	return <-done
}

func onThread(fn func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The leader's namespaces are the process's in /proc: hold it here and use another thread.
		inner := make(chan error, 1)
		go onThread(fn, inner)
		err := <-inner
		runtime.UnlockOSThread()
		done <- err
		return
	}
	// Not unlocked: the Go runtime ends a thread whose goroutine returns while locked to it.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		done <- fmt.Errorf("unshare the thread's root and working directory: %w (svcplane needs to run as root)", err)
		return
	}
	done <- fn()
}

// Namespaces are paths of namespace files (such as /proc/1/ns/net). An empty path leaves that namespace as
// it is.
type Namespaces struct {
	Net string `json:"net,omitempty"`
	UTS string `json:"uts,omitempty"`
	IPC string `json:"ipc,omitempty"`
	PID string `json:"pid,omitempty"`
	Mnt string `json:"mnt,omitempty"`
	// User is what the others belong to. A process of many threads cannot enter it: Enter leaves it out.
	User string `json:"user,omitempty"`
}

// NamespacesOf gives the namespaces that process pid is in.
func NamespacesOf(pid int) Namespaces {
	ns := func(kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", pid, kind) }
	return Namespaces{Net: ns("net"), UTS: ns("uts"), IPC: ns("ipc"), PID: ns("pid"), Mnt: ns("mnt")}
}

// Enter moves the calling thread into the namespaces; only for use within OnThread. The PID namespace
// holds for children only (setns(2)). The mount namespace comes last because it takes the paths away.
func (n Namespaces) Enter() error {
	var steps []nsStep
	defer func() {
		for _, s := range steps {
			unix.Close(s.fd)
		}
	}()
	for _, s := range []nsStep{
		{path: n.Net, kind: unix.CLONE_NEWNET},
		{path: n.UTS, kind: unix.CLONE_NEWUTS},
		{path: n.IPC, kind: unix.CLONE_NEWIPC},
		{path: n.PID, kind: unix.CLONE_NEWPID},
		{path: n.Mnt, kind: unix.CLONE_NEWNS},
	} {
		if s.path == "" {
			continue
		}
		fd, err := unix.Open(s.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open namespace", Path: s.path, Err: err}
		}
		s.fd = fd
		steps = append(steps, s)
	}
	for _, s := range steps {
		if err := unix.Setns(s.fd, s.kind); err != nil {
			return &os.PathError{Op: "enter namespace", Path: s.path, Err: err}
		}
	}
	return nil
}

type nsStep struct {
	path string
	kind int
	fd   int
}

// InNet runs fn on a thread in the network namespace file at path.
func InNet(path string, fn func() error) error {
	if path == "" {
		return errors.New("enter network namespace: no path")
	}
	return OnThread(func() error {
		if err := (Namespaces{Net: path}).Enter(); err != nil {
			return err
		}
		return fn()
	})
}
