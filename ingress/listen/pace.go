package listen

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/ingress/pace"
)

// Inflow measures how fast a client sends the body of a request over HTTP/1.1. What came is what came over the wire: a
// record of TLS is of no use before its end, and takes a slow client a while.
type Inflow struct {
	Meter pace.Meter
	c     *Conn
	seen  int64
}

// Start is called before the body is waited for; octets of it have come already, with the head, and count.
func (i *Inflow) Start(c *Conn, limit *pace.Limit, octets int64) {
	i.c, i.seen = c, c.Got.Load()
	i.Meter.Start(limit)
	i.Meter.Add(octets)
}

// Came ends a wait that the meter was told of.
func (i *Inflow) Came() {
	i.Meter.Done(time.Now())
	got := i.c.Got.Load()
	i.Meter.Add(got - i.seen)
	i.seen = got
}

// outflow measures how fast a client takes what is written. The kernel's buffer is large, and tells that it has room again
// only when a good part of it has: what counts is what the client has acknowledged. That is looked at only when the client
// has used up what it had. One goroutine writes at a time.
type outflow struct {
	meter pace.Meter
	sent  int64        // octets that the kernel has taken from us
	seen  int64        // of these, what was acknowledged when we looked
	until atomic.Int64 // the deadline that is set for writing, unix nanoseconds; 0: none of ours
	cut   bool         // the client was too slow: it gets nothing more
}

// Write fails with pace.ErrSlow when the client takes it too slowly.
func (c *Conn) Write(p []byte) (done int, err error) {
	o := &c.out
	for {
		if o.cut {
			return done, pace.ErrSlow
		}
		fixed := c.fixed.Load()
		if !fixed {
			if err := c.armWrite(); err != nil {
				return done, err
			}
		}
		n, err := c.TCPConn.Write(p[done:])
		done, o.sent = done+n, o.sent+int64(n)
		if !fixed {
			o.meter.Done(time.Now())
		}
		if err == nil || c.fixed.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return done, err
		}
		if c.lags() {
			return done, pace.ErrSlow
		}
	}
}

// armWrite begins a wait for the client. Setting a deadline for every write would cost more than it is worth: one that is
// over before the client's time is only a reason to look.
func (c *Conn) armWrite() error {
	now := time.Now()
	by := c.out.meter.Wait(now) // a look is due then at the latest
	left, set := by.Sub(now), c.out.until.Load()-now.UnixNano()
	if set > int64(left/2) && set <= int64(left) {
		return nil
	}
	c.out.until.Store(by.UnixNano())
	return c.TCPConn.SetWriteDeadline(by)
}

// lags looks at what the client has acknowledged. If it is too slow, nothing more is written, and what waits in the kernel
// goes with the connection.
func (c *Conn) lags() bool {
	o := &c.out
	acked := o.sent - c.unacked()
	o.meter.Add(acked - o.seen)
	o.seen = acked
	if o.meter.Slow() {
		o.cut = true
		_ = c.SetLinger(0) // it fails only if it is closed
	}
	return o.cut
}

// unacked is how many octets the client has not acknowledged.
func (c *Conn) unacked() int64 {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0 // it is closed, which the next write tells
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }) // the same
	return int64(n)
}

// StopPacing ends measuring: the connection speaks something else now, whose silence is its own affair. Only a client that
// takes nothing at all of what is written is cut off.
func (c *Conn) StopPacing() { c.out.meter.Start(&pace.Limit{Most: c.set.answers.Most}) }
