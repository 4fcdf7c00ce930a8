package catalog

import (
	"context"
	"net/netip"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// Drained blocks until no subscriber can send a new connection to addr because of an endpoint that is
// still in service: every EndpointSlice has it terminating or not at all, and every subscriber has applied
// that. It returns the cause when ctx ends first.
func (c *Catalog) Drained(ctx context.Context, addr netip.Addr) error {
	var seen uint64 // the last change that was known when addr was out of service; 0: it still is in
	for {
		c.mu.Lock()
		changed := c.changed
		if c.serving[addr.String()] > 0 {
			seen = 0
		} else if seen == 0 {
			seen = c.seq
		}
		done := c.serving[addr.String()] == 0 && c.applied(seen)
		c.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// applied says whether every subscriber has put the changes up to seq into force; c.mu is held.
func (c *Catalog) applied(seq uint64) bool {
	for _, s := range c.subs {
		if s.owes(seq) {
			return false
		}
	}
	return true
}

// markOwner marks the Service that a slice belongs to; c.mu is held.
func (c *Catalog) markOwner(slice *discoveryv1.EndpointSlice) {
	if key, ok := KeyOfSlice(slice); ok {
		c.markDirty(key)
	}
}

// markDirty tells every subscriber; c.mu is held.
func (c *Catalog) markDirty(key Key) {
	c.seq++
	for _, s := range c.subs {
		s.mark(key, c.seq)
	}
	c.wakeDrains()
}

// wakeDrains lets every Drained look again; c.mu is held.
func (c *Catalog) wakeDrains() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// servingIndex counts, per address, the slices that have it in service.
type servingIndex map[string]int

func (x servingIndex) add(slice *discoveryv1.EndpointSlice)    { x.count(slice, 1) }
func (x servingIndex) remove(slice *discoveryv1.EndpointSlice) { x.count(slice, -1) }

func (x servingIndex) count(slice *discoveryv1.EndpointSlice, by int) {
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		if deref(e.Conditions.Terminating) {
			continue
		}
		for _, addr := range e.Addresses {
			if x[addr] += by; x[addr] == 0 {
				delete(x, addr)
			}
		}
	}
}
