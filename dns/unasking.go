package dns

import (
	"container/list"
	"net"
	"sync"
)

// unasking are the TCP connections that wait for a question, those that have waited longest in front. When there are as many
// connections as there may be, the first of them makes room (RFC 7766 section 6.2.3): who opens many and asks nothing keeps
// nobody else out.
type unasking struct {
	mu  sync.Mutex
	all list.List // of net.Conn
}

// begin is called before a question is waited for; end when one has come, or none will.
func (u *unasking) begin(conn net.Conn) *list.Element {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all.PushBack(conn)
}

func (u *unasking) end(e *list.Element) {
	if e == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all.Remove(e) // nothing if it was the one to make room
}

// makeRoom closes the connection that has been silent longest, if there is one.
func (u *unasking) makeRoom() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.all.Front(); e != nil {
		_ = u.all.Remove(e).(net.Conn).Close() // its reader ends and gives its place back
	}
}
