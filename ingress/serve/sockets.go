package serve

import (
	"fmt"
	"net"
	"net/netip"
	"os"
)

// inherit takes the listener for addr out of those of the last run; nil if there is none.
func (s *Server) inherit(addr netip.AddrPort) net.Listener {
	for i, l := range s.inherited {
		if l != nil && sameDoor(l.Addr().(*net.TCPAddr).AddrPort(), addr) {
			s.inherited[i] = nil
			return l
		}
	}
	return nil
}

// sameDoor: a socket for 0.0.0.0 calls itself ::, because it may be both.
func sameDoor(a, b netip.AddrPort) bool {
	same := a.Addr().Unmap() == b.Addr().Unmap() || a.Addr().IsUnspecified() && b.Addr().IsUnspecified()
	return same && a.Port() == b.Port()
}

// disinherit closes what nobody wanted.
func (s *Server) disinherit() {
	for _, l := range s.inherited {
		if l != nil {
			_ = l.Close() // it is going away: there is nothing to do about an error
		}
	}
	s.inherited = nil
}

// handOn gives copies of the listening sockets to keep, whose business they are from then on.
func (s *Server) handOn() error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close() // the holder has its own
		}
	}()
	for _, l := range []net.Listener{s.plain.socket, s.secure.socket} {
		if l == nil {
			continue
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			return fmt.Errorf("copying the socket of %s: %w", l.Addr(), err)
		}
		files = append(files, f)
	}
	return s.keep(files)
}
