package loadbalancer

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// socket is one that takes what arrives on a port of the network namespace.
type socket struct {
	local    netip.AddrPort
	protocol corev1.Protocol
	inode    string
}

// The states of /proc/net/{tcp,udp} that take new traffic: TCP_LISTEN, and TCP_CLOSE which an unconnected UDP socket has
// (include/net/tcp_states.h).
const (
	stateListen      = "0A"
	stateUnconnected = "07"
)

// sockets reads the listening sockets of the network namespace that procNet (such as /proc/thread-self/net) shows.
// A kernel without IPv6 has no files for it.
func sockets(procNet string) ([]socket, error) {
	var all []socket
	for _, table := range []struct {
		file, state string
		protocol    corev1.Protocol
	}{
		{"tcp", stateListen, corev1.ProtocolTCP},
		{"tcp6", stateListen, corev1.ProtocolTCP},
		{"udp", stateUnconnected, corev1.ProtocolUDP},
		{"udp6", stateUnconnected, corev1.ProtocolUDP},
	} {
		f, err := os.Open(filepath.Join(procNet, table.file))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the node's sockets: %w", err)
		}
		found, err := parseSockets(f, table.state, table.protocol)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("reading the node's sockets from %s: %w", f.Name(), err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// parseSockets reads the format of proc_pid_net(5): "sl local_address rem_address st …", the inode in the tenth column.
func parseSockets(r io.Reader, state string, protocol corev1.Protocol) ([]socket, error) {
	var found []socket
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != state {
			continue
		}
		local, err := parseLocal(f[1])
		if err != nil {
			return nil, err
		}
		found = append(found, socket{local: local, protocol: protocol, inode: f[9]})
	}
	return found, lines.Err()
}

// parseLocal reads "0100007F:0050": the address as 32-bit words in the machine's byte order, the port in hexadecimal.
func parseLocal(text string) (netip.AddrPort, error) {
	words, portText, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(words)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", text, err)
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	port, err := strconv.ParseUint(portText, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q is not one", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// takes says whether the socket gets what arrives for the port of addr. A wildcard IPv6 socket takes IPv4 too, unless it
// said otherwise, which these files do not show.
func (s socket) takes(addr netip.Addr, port PortKey) bool {
	if s.local.Port() != port.Port || s.protocol != port.Protocol {
		return false
	}
	at := s.local.Addr()
	return at == addr || at.IsUnspecified() && (at.Is6() || addr.Is4())
}

// processOf names the process that has the socket: "nginx (pid 123)". One that may not be looked into is "a local
// process".
func processOf(proc, inode string) string {
	want := "socket:[" + inode + "]"
	fds, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	if err != nil {
		return unknownProcess
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		if name, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil {
			return fmt.Sprintf("process %s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
		}
	}
	return unknownProcess
}

const unknownProcess = "a local process"
