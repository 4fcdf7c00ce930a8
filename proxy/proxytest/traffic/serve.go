package traffic

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// messageSize is a number and, in the answer, the letter of who answers.
const messageSize = 9

// Serve answers on both sockets with each message and the letter, in the background, until they are closed.
func Serve(l net.Listener, c *net.UDPConn, letter byte) error {
	if err := widen(c); err != nil {
		return fmt.Errorf("enlarging the buffer of a socket: %w", err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answer(conn, letter)
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if n == messageSize {
				b[n-1] = letter
				_, _ = c.WriteToUDPAddrPort(b[:n], from) // who asked misses it and says so
			}
		}
	}()
	return nil
}

func answer(conn net.Conn, letter byte) {
	defer conn.Close()
	b := make([]byte, messageSize)
	for {
		if n, err := conn.Read(b); err != nil || n != messageSize {
			return
		}
		b[messageSize-1] = letter
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

// widen gives a socket that all clients ask a buffer for all of them, whatever this machine's limit is, or up to that where
// the program may not exceed it, as in a pod.
func widen(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	const size = 8 << 20
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
		if inner == unix.EPERM {
			inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
	})
	return errors.Join(err, inner)
}
