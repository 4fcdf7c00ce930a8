package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"k8s.io/klog/v2"
)

const (
	failover   = 400 * time.Millisecond  // a slower upstream gets company
	repeat     = 1500 * time.Millisecond // the same one is asked again: the datagram may be lost
	patience   = 4500 * time.Millisecond // less than the 5 s after which resolvers give up
	recheck    = 2 * time.Second         // one that failed, or is not used because it is slow, is tried again this often
	probeFor   = 2 * time.Second         // how long an attempt at that may take
	lull       = 30 * time.Second        // without questions for this long nobody is tried
	staleAfter = 1800 * time.Millisecond // client response timer, RFC 8767 section 5
	silentFor  = 2*recheck + time.Second // how long it counts that no upstream answers: longer than from one probe to the next
	doubt      = time.Second             // what a question waits for upstreams that did not answer when they were last asked
)

var (
	errNoUpstream = errors.New("no upstream server is known")
	errSilent     = errors.New("no upstream server answers")
)

// health is what is known of all upstreams together.
type health int

const (
	hearing  health = iota // one of them answers, or nobody has asked
	doubtful               // none answered when they were last asked, and that is a while ago
	silent                 // none answered just now: a question would wait for nothing
)

// forwarder resolves the names of the rest of the world. Identical questions share one exchange, which also
// keeps a loop of forwarders from growing: the question that comes back waits for itself and fails.
type forwarder struct {
	cache     *cache
	now       func() time.Time
	upstreams atomic.Pointer[[]*upstream]
	workers   sync.WaitGroup
	loopTold  atomic.Int64 // when a loop was last logged, Unix seconds
	asked     atomic.Int64 // when somebody was last asked, Unix nanoseconds
	renew     chan question
	broken    atomic.Uint64 // questions that came while no upstream answered

	mu      sync.Mutex
	flights map[string]*flight
}

// flight is one question on its way.
type flight struct {
	done   chan struct{}
	answer *cached // set before done is closed, unless err is
	err    error
}

func newForwarder(answers *cache, now func() time.Time) *forwarder {
	f := &forwarder{cache: answers, now: now, flights: map[string]*flight{}, renew: make(chan question, 64)}
	f.upstreams.Store(&[]*upstream{})
	return f
}

// use replaces the upstreams; those that stay keep their standing.
func (f *forwarder) use(addrs []netip.AddrPort) {
	old := *f.upstreams.Load()
	next := make([]*upstream, 0, len(addrs))
	for _, addr := range addrs {
		i := slices.IndexFunc(old, func(u *upstream) bool { return u.addr == addr })
		if i >= 0 {
			next = append(next, old[i])
			continue
		}
		next = append(next, &upstream{addr: addr})
	}
	f.upstreams.Store(&next)
}

// able says whether there is anybody to ask.
func (f *forwarder) able() bool { return len(*f.upstreams.Load()) > 0 }

// health says whether it is worth while to ask. What failed is told at once while probes find out whether it still
// fails (RFC 9520 section 3.2 wants failures remembered, for 1 s to 5 min).
func (f *forwarder) health(now time.Time) health {
	all := *f.upstreams.Load()
	h := silent
	for _, u := range all {
		ago, ok := u.silentSince(now)
		if !ok {
			return hearing
		}
		if ago > silentFor {
			h = doubtful
		}
	}
	if len(all) == 0 {
		return hearing
	}
	return h
}

// serves says whether a client at addr is one of our upstreams.
func (f *forwarder) serves(addr netip.Addr) bool {
	return slices.ContainsFunc(*f.upstreams.Load(), func(u *upstream) bool { return u.addr.Addr() == addr })
}

// loops says whether a question from addr is our own one, come back from an upstream that asks us.
func (f *forwarder) loops(addr netip.Addr, key []byte) bool {
	if !f.serves(addr) || !f.inFlight(key) {
		return false
	}
	now := f.now().Unix()
	if last := f.loopTold.Load(); now-last >= 60 && f.loopTold.CompareAndSwap(last, now) {
		klog.InfoS("DNS upstream forwards to us, so names outside the cluster fail: correct its configuration or the list of upstreams", "upstream", addr)
	}
	return true
}

// inFlight says whether the question is being asked at this moment.
func (f *forwarder) inFlight(key []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flights[string(key)] != nil
}

// resolve answers from the cache or asks. When the upstreams fail or take long, an expired answer stands in
// (RFC 8767).
func (f *forwarder) resolve(ctx context.Context, q *question) (*cached, error) {
	old, fresh := f.cache.get(q.key(), f.now())
	if fresh {
		return old, nil
	}
	if old != nil && f.now().UnixNano() < old.retry.Load() {
		return f.standIn(old, nil)
	}
	if !f.able() {
		return f.standIn(old, errNoUpstream)
	}
	waitFor := patience + time.Second // the flight ends before
	if old != nil {
		waitFor = staleAfter
	}
	switch f.health(f.now()) {
	case silent:
		f.asked.Store(f.now().UnixNano()) // so that probes go on
		f.broken.Add(1)
		return f.standIn(old, errSilent)
	case doubtful:
		waitFor = doubt
	}
	late := time.NewTimer(waitFor)
	defer late.Stop()
	fl := f.join(ctx, q)
	select {
	case <-fl.done:
		if fl.err != nil {
			return f.standIn(old, fl.err)
		}
		return fl.answer, nil
	case <-late.C:
		return f.standIn(old, errSilent)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// standIn gives an expired answer if there is one, else the error.
func (f *forwarder) standIn(old *cached, err error) (*cached, error) {
	if old == nil {
		return nil, err
	}
	f.cache.figures.stale.Add(1)
	return old, nil
}

// prefetch asks run for an answer that is used often and about to expire. When run is busy, others come.
func (f *forwarder) prefetch(hit *cached, q *question, now time.Time) {
	if !hit.due(now) {
		return
	}
	select {
	case f.renew <- *q:
		f.cache.figures.prefetched.Add(1)
	default:
		hit.renews.Store(false)
	}
}

// run fetches again what is about to expire, and tries upstreams that questions do not go to, until ctx ends.
func (f *forwarder) run(ctx context.Context) error {
	f.asked.Store(f.now().UnixNano()) // whether upstreams answer is known before somebody waits for them
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case q := <-f.renew:
			f.join(ctx, &q)
		case <-tick.C:
			f.probe(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// probe tries every upstream that was not used lately or did not answer, so that no question has to find out whether it
// works again and how fast it is. Only while there are questions.
func (f *forwarder) probe(ctx context.Context) {
	now := f.now()
	if now.Sub(time.Unix(0, f.asked.Load())) > lull {
		return
	}
	for _, u := range *f.upstreams.Load() {
		if _, _, used := u.standing(); now.Sub(used) < recheck && !u.inDoubt() {
			continue
		}
		f.workers.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeFor)
			defer cancel()
			query := new(dns.Msg)
			query.SetQuestion(".", dns.TypeNS)
			if o := f.try(ctx, u, query); o.err != nil && !errors.Is(o.err, context.Canceled) {
				u.unanswered()
			}
		})
	}
}

// join finds the flight of a question, or starts it.
func (f *forwarder) join(ctx context.Context, q *question) *flight {
	key := string(q.key())
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.flights[key]; fl != nil {
		return fl
	}
	fl := &flight{done: make(chan struct{})}
	f.flights[key] = fl
	query := queryFor(q)
	f.workers.Go(func() {
		fl.answer, fl.err = f.fly(ctx, key, query)
		f.mu.Lock()
		delete(f.flights, key)
		f.mu.Unlock()
		close(fl.done)
	})
	return fl
}

func (f *forwarder) fly(ctx context.Context, key string, query *dns.Msg) (*cached, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := f.ask(ctx, query)
	if err != nil || m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused {
		if old, _ := f.cache.get([]byte(key), f.now()); old != nil {
			old.retry.Store(f.now().Add(staleRetry).UnixNano())
			return old, nil // a failure does not replace an answer, RFC 8767 section 4
		}
	}
	if err != nil {
		return nil, err
	}
	m.Question = query.Question
	answer, err := newCached(key, m, f.now())
	if err != nil {
		return nil, err
	}
	if answer.life > 0 {
		f.cache.put(answer)
	}
	return answer, nil
}

// queryFor makes the message that goes to an upstream.
func queryFor(q *question) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(textName(q.wire()), q.qtype)
	m.CheckingDisabled = q.flags&bitCD != 0
	m.AuthenticatedData = true // tell whether it is validated, RFC 6840 section 5.7: some who ask us want to know
	m.SetEdns0(maxUDP, q.do)
	return m
}

// outcome is how one exchange with one upstream ended.
type outcome struct {
	m   *dns.Msg
	err error
}

// good says whether the outcome answers the question; another upstream may do better at a SERVFAIL or REFUSED.
func (o outcome) good() bool {
	return o.err == nil && (o.m.Rcode == dns.RcodeSuccess || o.m.Rcode == dns.RcodeNameError)
}

// ask tries the upstreams from the best on. A slow one is not given up when the next is tried: the first good
// answer counts.
func (f *forwarder) ask(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
	f.asked.Store(f.now().UnixNano())
	turns := f.turns()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan outcome, len(turns))
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	begun, pending := 0, 0
	next := func() {
		if begun == len(turns) {
			return
		}
		u := turns[begun]
		begun++
		pending++
		f.workers.Go(func() { outcomes <- f.try(ctx, u, query) })
		wait := failover
		if begun < len(turns) && slices.Contains(turns[:begun], turns[begun]) {
			wait = repeat
		}
		timer.Reset(wait)
	}
	var last outcome
	for next(); pending > 0; {
		select {
		case <-timer.C:
			turns[begun-1].late()
			next()
		case o := <-outcomes:
			pending--
			if o.good() {
				return o.m, nil
			}
			if last.m == nil {
				last = o
			}
			next()
		}
	}
	return last.m, last.err
}

// try is one exchange, with the upstream's standing kept.
func (f *forwarder) try(ctx context.Context, u *upstream, query *dns.Msg) outcome {
	start := f.now()
	u.begin(start)
	m, err := u.ask(ctx, query)
	took := f.now().Sub(start)
	if errors.Is(context.Cause(ctx), context.Canceled) { // another was faster, or we are stopping
		return outcome{err: fmt.Errorf("upstream %s: %w", u.addr, context.Canceled)}
	}
	if err != nil {
		m = nil
	}
	u.note(start.Add(took), took, m)
	return outcome{m, err}
}

// turns is the order to ask in: working ones first, the fastest first; everyone twice, at least three tries in
// all.
func (f *forwarder) turns() []*upstream {
	type candidate struct {
		u      *upstream
		failed int
		rtt    time.Duration
	}
	var all []candidate
	for _, u := range *f.upstreams.Load() {
		failed, rtt, _ := u.standing()
		c := candidate{u: u, rtt: rtt}
		if failed {
			c.failed = 1
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.failed, b.failed), cmp.Compare(a.rtt, b.rtt))
	})
	var turns []*upstream
	for range 2 {
		for _, c := range all {
			turns = append(turns, c.u)
		}
	}
	if len(all) == 1 {
		turns = append(turns, all[0].u)
	}
	return turns
}
