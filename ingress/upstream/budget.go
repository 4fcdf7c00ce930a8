package upstream

import (
	"errors"
	"net"
	"sync/atomic"
)

// connBudget counts the connections to endpoints, of which there may be so many.
type connBudget struct {
	most int64 // 0: as many as there are
	open atomic.Int64
}

// ErrTooManyConns says that no connection was made because Config.MaxConnections are open.
var ErrTooManyConns = errors.New("as many connections to endpoints are open as there may be (ulimit -n)")

// take is called before a connection is made, give after its end.
func (l *connBudget) take() error {
	if l.open.Add(1) > l.most && l.most > 0 {
		l.open.Add(-1)
		return ErrTooManyConns
	}
	return nil
}

func (l *connBudget) give() { l.open.Add(-1) }

// scarce says that none should be kept for later.
func (l *connBudget) scarce() bool { return l.most > 0 && l.open.Load() > l.most/2 }

// budgetConn is a connection that gives its place back, once.
type budgetConn struct {
	*net.TCPConn
	lines *connBudget
	given atomic.Bool
}

func (l *budgetConn) Close() error {
	if l.given.CompareAndSwap(false, true) {
		defer l.lines.give()
	}
	return l.TCPConn.Close()
}
