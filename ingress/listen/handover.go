package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Between the end of a process and the start of the next, another one, the holder, keeps the listening sockets open.
// Nobody accepts meanwhile, so that connections wait in their queues instead of being refused. Whoever starts next
// takes the sockets from the holder over a unix socket and serves those who waited.

const maxHeld = 8 // sockets

// HolderName is where the holder of the sockets for these addresses is found, in this network namespace: an
// abstract unix address, which needs no directory and goes with its process.
func HolderName(http, https netip.AddrPort) string {
	return holderPrefix + http.String() + "-" + https.String()
}

// HolderIn finds the name of a holder in a line of /proc/net/unix.
func HolderIn(line string) (string, bool) {
	i := strings.LastIndex(line, holderPrefix)
	if i < 0 {
		return "", false
	}
	return line[i:], true
}

// HolderKeeps says whether the holder of that name keeps a socket of a port.
func HolderKeeps(name string, port uint16) bool {
	for _, text := range strings.Split(strings.TrimPrefix(name, holderPrefix), "-") {
		if at, err := netip.ParseAddrPort(text); err == nil && at.Port() == port {
			return true
		}
	}
	return false
}

const holderPrefix = "@svcplane-ingress-"

// Hold keeps sockets open for a while, and hands them over to whoever asks first and is the same user, or root. ready
// is called when it can be asked. It returns nil once they are handed over, or when ctx or the time has ended.
func Hold(ctx context.Context, name string, sockets []*os.File, ready func()) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return fmt.Errorf("waiting for the next start on %s: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	ready()
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("waiting for the next start on %s: %w", name, err)
		}
		err = giveSockets(c, sockets)
		_ = c.Close() // all is said
		if err == nil {
			return nil
		}
	}
}

func giveSockets(c *net.UnixConn, sockets []*os.File) error {
	if err := sameUser(c); err != nil {
		return err
	}
	var fds []int
	for _, f := range sockets {
		fds = append(fds, int(f.Fd()))
	}
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, _, err := c.WriteMsgUnix([]byte{byte(len(fds))}, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("handing the sockets over: %w", err)
	}
	return nil
}

func sameUser(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) { peer, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, inner); err != nil {
		return err
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return errors.New("another user asked for the sockets")
	}
	return nil
}

// Take gets the listening sockets that a holder keeps; none if there is no holder.
func Take(name string) ([]net.Listener, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: name, Net: "unix"})
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the sockets of the last run at %s: %w", name, err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	var count [1]byte
	oob := make([]byte, unix.CmsgSpace(4*maxHeld))
	_, n, _, _, err := c.ReadMsgUnix(count[:], oob)
	if err != nil {
		return nil, fmt.Errorf("taking the sockets of the last run: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, fmt.Errorf("taking the sockets of the last run: %w", err)
	}
	var all []net.Listener
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return all, fmt.Errorf("taking the sockets of the last run: %w", err)
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "listener")
			l, err := net.FileListener(f)
			_ = f.Close() // l has its own
			if err != nil {
				return all, fmt.Errorf("taking the sockets of the last run: %w", err)
			}
			all = append(all, l)
		}
	}
	return all, nil
}
