package ingress

import (
	"errors"
	"net"
	"sync/atomic"
)

// lines counts the connections to endpoints, of which there may be so many.
type lines struct {
	most int64 // 0: as many as there are
	open atomic.Int64
}

var errNoLine = errors.New("as many connections to endpoints are open as there may be (ulimit -n)")

// take is called before a connection is made, give after its end.
func (l *lines) take() error {
	if l.open.Add(1) > l.most && l.most > 0 {
		l.open.Add(-1)
		return errNoLine
	}
	return nil
}

func (l *lines) give() { l.open.Add(-1) }

// scarce says that none should be kept for later.
func (l *lines) scarce() bool { return l.most > 0 && l.open.Load() > l.most/2 }

// line is a connection that gives its place back, once.
type line struct {
	*net.TCPConn
	lines *lines
	given atomic.Bool
}

func (l *line) Close() error {
	if l.given.CompareAndSwap(false, true) {
		defer l.lines.give()
	}
	return l.TCPConn.Close()
}
