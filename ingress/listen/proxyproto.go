package listen

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The PROXY protocol, versions 1 and 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt): a proxy that passes on
// bytes says first who is at the other end.
const (
	proxyV1Max = 107 // with CR LF
	proxyV2Max = 16 + 1024
)

var (
	proxyV1Start = []byte("PROXY ")
	proxyV2Start = []byte("\r\n\r\n\x00\r\nQUIT\n")
	errProxyLine = errors.New("malformed PROXY header")
)

// readProxyHeader takes the PROXY header off the beginning of a connection, if there is one, and notes the client.
func (f *Acceptor) readProxyHeader(c *Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(f.HeaderTimeout)); err != nil {
		return err
	}
	buf := make([]byte, 0, proxyV2Max)
	for {
		src, n, err := parseProxyHeader(buf)
		if err != nil {
			return err
		}
		if n >= 0 {
			if src.IsValid() {
				c.Remote = src
			}
			c.Prefix = buf[n:]
			return c.SetReadDeadline(time.Time{})
		}
		if len(buf) == cap(buf) {
			return errProxyLine
		}
		got, err := c.TCPConn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+got]
		if err != nil && got == 0 {
			if errors.Is(err, io.EOF) && len(buf) == 0 {
				return err
			}
			return errors.Join(errProxyLine, err)
		}
	}
}

// parseProxyHeader looks at the beginning of a connection. n is the length of the header, 0 if there is none, -1 if
// more bytes are needed. src is invalid if the header names nobody: the proxy speaks for itself.
func parseProxyHeader(b []byte) (src netip.AddrPort, n int, err error) {
	switch {
	case bytes.HasPrefix(b, proxyV1Start):
		return parseProxyV1(b)
	case bytes.HasPrefix(b, proxyV2Start):
		return parseProxyV2(b)
	case bytes.HasPrefix(proxyV1Start, b) || bytes.HasPrefix(proxyV2Start, b):
		return src, -1, nil
	}
	return src, 0, nil
}

func parseProxyV1(b []byte) (src netip.AddrPort, n int, err error) {
	line, _, found := bytes.Cut(b, []byte("\r\n"))
	if !found {
		if len(b) >= proxyV1Max {
			return src, 0, errProxyLine
		}
		return src, -1, nil
	}
	n = len(line) + 2
	fields := strings.Split(string(line), " ")
	if len(fields) >= 2 && fields[1] == "UNKNOWN" {
		return src, n, nil
	}
	if len(fields) != 6 || n > proxyV1Max {
		return src, 0, errProxyLine
	}
	addr, err := netip.ParseAddr(fields[2])
	if err != nil || addr.Zone() != "" || addr.Is4() != (fields[1] == "TCP4") || addr.Is6() != (fields[1] == "TCP6") {
		return src, 0, errProxyLine
	}
	port, err := strconv.ParseUint(fields[4], 10, 16)
	if err != nil {
		return src, 0, errProxyLine
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), n, nil
}

func parseProxyV2(b []byte) (src netip.AddrPort, n int, err error) {
	const head = 16
	if len(b) < head {
		return src, -1, nil
	}
	size := int(binary.BigEndian.Uint16(b[14:]))
	if b[12]>>4 != 2 || b[12]&15 > 1 || head+size > proxyV2Max {
		return src, 0, errProxyLine
	}
	if n = head + size; len(b) < n {
		return src, -1, nil
	}
	body := b[head:n]
	local := b[12]&15 == 0
	switch {
	case local || b[13] == 0: // LOCAL, or UNSPEC
		return src, n, nil
	case b[13] == 0x11 && size >= 12: // TCP over IPv4: both addresses, both ports
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:])), n, nil
	case b[13] == 0x21 && size >= 36: // TCP over IPv6
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)).Unmap(), binary.BigEndian.Uint16(body[32:])), n, nil
	}
	return src, 0, errProxyLine
}
