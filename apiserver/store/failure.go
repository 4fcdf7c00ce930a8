package store

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"go.uber.org/zap/zapcore"

	"svcplane/disk"
)

// failure takes what etcd logs as fatal, or as a panic, and then expects not to live on: the goroutine ends, the process
// goes on, and the first of them is the error that the store ended with.
type failure struct {
	once sync.Once
	err  chan error
	done chan struct{}
}

func newFailure() *failure { return &failure{err: make(chan error, 1), done: make(chan struct{})} }

// OnWrite is called after the line was logged.
func (f *failure) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(entry.Message)
	for _, field := range fields {
		if cause, ok := field.Interface.(error); ok && field.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	f.report(err)
	runtime.Goexit()
}

func (f *failure) report(err error) {
	f.once.Do(func() {
		f.err <- err
		close(f.done)
	})
}

func (f *failure) happened() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// protect turns a panic, and a fault in a file that is mapped into memory, into an error.
func protect(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return do()
}

// remedyFor is what to do about an error that the check of the files could not foresee.
func remedyFor(err error) string {
	text := err.Error()
	switch {
	case errors.Is(err, syscall.EROFS) || strings.Contains(text, syscall.EROFS.Error()):
		return "make the file system writable again (dmesg says why the kernel made it read-only)"
	case disk.NoSpace(err):
		return "make room on that disk"
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM):
		return "mend the permissions"
	case strings.Contains(text, "file already locked"):
		return "another process has the store open: stop it"
	case strings.Contains(text, "downgrade") || strings.Contains(text, "server version is lower"):
		return "a newer version of svcplane or etcd wrote it: use that one"
	}
	return remedy
}
