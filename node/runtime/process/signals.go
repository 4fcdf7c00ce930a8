package process

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction has room for the kernel's struct sigaction of every architecture, the handler first: handler, flags, restorer and
// 64 bits of mask, which are two words on a 32-bit machine.
type sigaction [5]uintptr

// DefaultSignals has no signal ignored any more: what a process ignores, those that it starts ignore, too (execve(2)), and
// the Go runtime heeds only the signals that it knows. To be called after signal.Notify.
func DefaultSignals() {
	for number := uintptr(1); number <= 64; number++ {
		var action sigaction
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, number, 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
		if errno != 0 || action[0] != 1 { // SIG_IGN
			continue
		}
		action = sigaction{} // SIG_DFL
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, number, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}
