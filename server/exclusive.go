package server

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// proxySocket is an abstract socket. Those belong to a network namespace, as do rules, routes and programs, and go with
// their process, however it ends.
const proxySocket = "@svcplane-proxy"

// onlyProxy makes this process the only one that has the kernel of this network namespace carry Services out, until what it
// returns is closed: another with other Services would take its chains and programs for its own, and replace what is in them,
// and a cleanup would remove them while it runs. otherwise is what can be done besides stopping the process that is the one.
func onlyProxy(otherwise string) (*net.UnixListener, error) {
	at := &net.UnixAddr{Name: proxySocket, Net: "unix"}
	l, err := net.ListenUnix("unix", at)
	if err == nil {
		return l, nil
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("becoming the service proxy of this network namespace: %w", err)
	}
	peer, err := listenerOf(at)
	switch {
	case err != nil:
		return nil, fmt.Errorf("becoming the service proxy of this network namespace in place of another process: %w: try again", err)
	case peer.Uid != 0: // anybody may have a socket of that name, and nobody else a service proxy
		klog.InfoS("A process that is not root's has the name by which servers in a network namespace see each other", "pid", peer.Pid, "name", proxySocket)
		return nil, nil
	}
	return nil, fmt.Errorf("process %d is a server that has the service proxy of this network namespace: stop it%s", peer.Pid, otherwise)
}

// listenerOf says who listens at a unix socket.
func listenerOf(at *net.UnixAddr) (*unix.Ucred, error) {
	c, err := net.DialUnix("unix", nil, at)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) { peer, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return peer, errors.Join(err, inner)
}
