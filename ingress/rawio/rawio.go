package rawio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Read and Write are read(2) and write(2) on a socket that never blocks, so that the scheduler need not be
// told of them, which costs as much as a small read itself.

// Read is recv(2) with MSG_DONTWAIT, tried again after EINTR.
func Read(fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Write is send(2) with MSG_DONTWAIT and MSG_NOSIGNAL until all of b is sent or an error came; it returns how much was.
func Write(fd uintptr, b []byte) (int, syscall.Errno) {
	done := 0
	for done < len(b) {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b[done:]))), uintptr(len(b)-done), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			done += int(n)
		case unix.EINTR:
		default:
			return done, errno
		}
	}
	return done, 0
}
