package catalog

import "time"

// Subscription is one reader's set of Services to look at again. Its owner, a single goroutine, loops:
//
//	for range sub.Dirty() { keys := sub.Take(); … read and apply …; sub.Done(keys...) }
//
// and calls Retry instead of Done, after a back-off, for what could not be applied.
type Subscription struct {
	c      *Catalog
	wake   chan struct{}
	dirty  map[Key]uint64    // the oldest change that is not applied
	taken  map[Key]uint64    // the same, in the owner's hands
	since  map[Key]time.Time // when the oldest change arrived that is not applied
	closed bool
}

// Subscribe makes a subscription on which every Service that exists is dirty at once.
func (c *Catalog) Subscribe() *Subscription {
	s := &Subscription{c: c, wake: make(chan struct{}, 1), dirty: map[Key]uint64{}, taken: map[Key]uint64{}, since: map[Key]time.Time{}}
	c.mu.Lock()
	c.subs = append(c.subs, s)
	c.mu.Unlock()
	s.Retry(c.Keys()...)
	return s
}

// Dirty receives after a Service became dirty. One value may stand for many changes.
func (s *Subscription) Dirty() <-chan struct{} { return s.wake }

// Take moves the dirty set into the caller's hands. The keys stay owed until Done or Retry.
func (s *Subscription) Take() []Key {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	keys := make([]Key, 0, len(s.dirty))
	for k, seq := range s.dirty {
		keys = append(keys, k)
		if old, ok := s.taken[k]; !ok || seq < old {
			s.taken[k] = seq
		}
	}
	clear(s.dirty)
	return keys
}

// Done says that the state read after Take is in force.
func (s *Subscription) Done(keys ...Key) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for _, k := range keys {
		delete(s.taken, k)
		if _, again := s.dirty[k]; !again {
			delete(s.since, k)
		}
	}
	s.c.wakeDrains()
}

// Since is when the oldest change of a key arrived that is not Done; zero when there is none.
func (s *Subscription) Since(key Key) time.Time {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.since[key]
}

// Retry makes keys dirty (again) and wakes the owner.
func (s *Subscription) Retry(keys ...Key) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for _, k := range keys {
		seq, ok := s.taken[k]
		if !ok {
			seq = s.c.seq
		}
		delete(s.taken, k)
		s.mark(k, seq)
	}
}

// Close ends the subscription: nothing waits for it any more.
func (s *Subscription) Close() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.closed = true
	for i, other := range s.c.subs {
		if other == s {
			s.c.subs = append(s.c.subs[:i:i], s.c.subs[i+1:]...)
			break
		}
	}
	s.c.wakeDrains()
}

// mark is called with c.mu held.
func (s *Subscription) mark(k Key, seq uint64) {
	if s.closed {
		return
	}
	if old, ok := s.dirty[k]; !ok || seq < old {
		s.dirty[k] = seq
	}
	if _, ok := s.since[k]; !ok {
		s.since[k] = time.Now()
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// owes says whether a change up to seq is not applied; called with c.mu held.
func (s *Subscription) owes(seq uint64) bool {
	for _, set := range []map[Key]uint64{s.dirty, s.taken} {
		for _, oldest := range set {
			if oldest <= seq {
				return true
			}
		}
	}
	return false
}
