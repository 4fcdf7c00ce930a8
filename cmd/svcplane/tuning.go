package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// steadyGCPercent trades processor time for memory once the process has started: it allocates little when
// nothing happens, and most of its heap lives as long as it does. docs/decisions.md has the numbers.
const steadyGCPercent = 25

// settleAfter is when the start's garbage is collected and given back, counted from the ready line: upstream
// components go on filling caches for a moment.
var settleAfter = []time.Duration{0, 5 * time.Second, 30 * time.Second}

// settle makes the process small after the start. GOGC in the environment wins.
func settle(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(steadyGCPercent)
	}
	began := time.Now()
	for _, after := range settleAfter {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(after))):
		}
		debug.FreeOSMemory()
		if err := forgetCode(); err != nil {
			klog.V(2).InfoS("Unmapping code that only the start needed", "err", err)
		}
	}
}

// forgetCode unmaps the pages of this program's code and constants; those in use come back from the page
// cache at a minor fault each. Start-up touches nearly all of them once: package initialisation, schemes,
// OpenAPI.
func forgetCode() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to, offset uint64
		var mode, device, inode, path string
		// proc_pid_maps(5): address perms offset dev inode pathname
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s %x %s %s %s", &from, &to, &mode, &offset, &device, &inode, &path); err != nil {
			continue
		}
		if path != self || strings.Contains(mode, "w") {
			continue
		}
		// not unix.Madvise, which takes a slice: this memory is not Go's
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return lines.Err()
}
