package server

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"svcplane/apiserver/store"
	"svcplane/disk"
)

// storePart outlives its store where that ended because nothing could be written: what does not write goes on with what
// it knows, and when there is room the process begins again, which is how a store that ended is opened.
type storePart struct {
	*store.Store
	disk *disk.Watch
	down atomic.Pointer[error]
}

// again asks for the process to begin again in its own place.
type again struct{ cause error }

func (a *again) Error() string { return fmt.Sprintf("beginning again after %v", a.cause) }

// Run returns an *again when there is room after the store ended for the lack of it.
func (s *storePart) Run(ctx context.Context) error {
	err := s.Store.Run(ctx)
	if err == nil || !disk.NoSpace(err) {
		return err
	}
	s.down.Store(&err)
	klog.ErrorS(err, "The store has ended; what is known is served and can be read, nothing is written until there is room")
	if s.disk.Await(ctx) != nil {
		return nil // asked to stop
	}
	return &again{err}
}

// Down is why the store has ended, nil if it has not.
func (s *storePart) Down() error {
	if err := s.down.Load(); err != nil {
		return *err
	}
	return nil
}

// Trouble is the same for people.
func (s *storePart) Trouble() string {
	if err := s.Down(); err != nil {
		return "ended: " + err.Error()
	}
	return ""
}

// withSpace adds to an error that comes from a full disk how full it is.
func withSpace(dir string, err error) error {
	if !disk.NoSpace(err) || strings.Contains(err.Error(), "make room") {
		return err
	}
	space, lookErr := disk.Look(dir)
	if lookErr != nil {
		return err
	}
	return fmt.Errorf("%w (on the disk of %s %v): make room there", err, dir, space)
}

// beginAgain runs this program anew in this process, with the same arguments, and what was taken out of the environment.
func beginAgain(taken []string) error {
	exe, err := os.Executable()
	if err == nil {
		err = unix.Exec(exe, os.Args, append(os.Environ(), taken...))
	}
	return fmt.Errorf("beginning again: %w", err)
}
