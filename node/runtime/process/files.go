package process

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ordinaryFiles is how many files this process could open when it began. The Go runtime raises that for itself and gives it
// back to what ForkExec starts, but tells nobody what it was. So a process is started to be asked, and ended before it does
// anything.
var ordinaryFiles = sync.OnceValues(func() (unix.Rlimit, error) {
	var limit unix.Rlimit
	err := elsewhere(func() error {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer null.Close()
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"svcplane", "version"}, &syscall.ProcAttr{Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}})
		if err != nil {
			return err
		}
		defer killChild(pid)
		return unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit)
	})
	if err != nil {
		return limit, fmt.Errorf("find how many files a process may open: %w", err)
	}
	return limit, nil
})
