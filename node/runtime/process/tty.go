package process

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenTTY opens a pseudo terminal of the calling thread's /dev: the master for us, the slave for the
// process to be.
func OpenTTY() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open terminal", Path: "/dev/ptmx", Err: err}
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("unlock terminal: %w", err)
	}
	// TIOCGPTPEER (Linux 4.13) finds the slave even where /dev/pts is another devpts than the master's.
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		master.Close()
		return nil, nil, fmt.Errorf("open the terminal's other end: %w", errno)
	}
	return master, os.NewFile(peer, "terminal"), nil
}

// Resize sets the size of a terminal in characters.
func Resize(master *os.File, width, height uint16) error {
	conn, err := master.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	var failed error
	if err := conn.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	}); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	if failed != nil {
		return fmt.Errorf("resize terminal to %dx%d: %w", width, height, failed)
	}
	return nil
}
