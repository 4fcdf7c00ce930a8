package address

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// State is the addresses at one moment.
type State struct {
	// Node is the node's address of each family, in the order of preference.
	Node []netip.Addr
	// Machine are all addresses but those on svcplane's own links.
	Machine []netip.Addr
}

func (s State) equal(o State) bool {
	return slices.Equal(s.Node, o.Node) && slices.Equal(s.Machine, o.Machine)
}

// FlagAddress is an address that a flag names for a listener.
type FlagAddress struct {
	Flag string
	At   netip.AddrPort
}

// Config says what a Source chooses from.
type Config struct {
	Wish
	FlagAddresses []FlagAddress // a listener does not work while no link has its address
	// Read lists the machine's addresses; Read of this package when nil.
	Read func() ([]Candidate, error)
	// Link carries the spare addresses; sp-node when empty.
	Link string
}

const (
	defaultLink = "sp-node"
	// debounce gathers the events of one change: an address goes, another comes, a route follows.
	debounce = 100 * time.Millisecond
	// patience is how long the node waits for another address before it goes by the spare one.
	patience = 2 * time.Second
	// lookPeriod is the time between two looks at the machine that no event asks for.
	lookPeriod = 5 * time.Second
	// A follower that fails is tried again after retryFirst, and then ever later.
	retryFirst, retryLast = 250 * time.Millisecond, 10 * time.Second
)

// Source follows the machine's addresses.
type Source struct {
	cfg   Config
	ready chan struct{}

	mu        sync.Mutex
	choices   []Choice
	machine   []Candidate
	state     State
	turn      uint64 // counts the States that followers have to follow
	followers []*follower
	problem   string    // with the last look
	lost      time.Time // since when an address is missing that the node still goes by; zero: none is
	touched   bool      // an address of the node went since followers last had a State
	since     time.Time // since when the choices are as they are
}

// follower is somebody who needs each State.
type follower struct {
	who  string
	do   func(context.Context, State) error
	wake chan struct{}

	// guarded by Source.mu
	turn uint64 // the last that it has followed
	err  error  // of the last try
}

// New chooses from machine, which Read gave. It starts nothing and changes nothing on the machine.
func New(cfg Config, machine []Candidate) *Source {
	if cfg.Read == nil {
		cfg.Read = Read
	}
	if cfg.Link == "" {
		cfg.Link = defaultLink
	}
	s := &Source{cfg: cfg, ready: make(chan struct{}), machine: machine, since: time.Now()}
	s.choices = Decide(nil, machine, cfg.Wish)
	s.state = stateOf(s.choices, machine)
	return s
}

func stateOf(choices []Choice, machine []Candidate) State {
	var s State
	for _, c := range choices {
		s.Node = append(s.Node, c.Addr)
	}
	for _, c := range machine {
		if c.usable() {
			s.Machine = append(s.Machine, c.Addr())
		}
	}
	slices.SortFunc(s.Machine, netip.Addr.Compare)
	return s
}

// State is what holds now.
func (s *Source) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Follow has do called with every State after this one, and with the same again when the kernel threw away what hung on
// an address that has come back: again and again until it returns nil. To be called before Run.
func (s *Source) Follow(who string, do func(context.Context, State) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followers = append(s.followers, &follower{who: who, do: do, wake: make(chan struct{}, 1), turn: s.turn})
}

// Ready is closed when the node has its addresses, be they the spare ones.
func (s *Source) Ready() <-chan struct{} { return s.ready }

// Run follows until ctx ends. A spare address that is needed stays: what goes on in the kernel goes on with it.
func (s *Source) Run(ctx context.Context) error {
	s.look(0) // what has changed since New
	s.tidy()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, f := range s.followers {
		wg.Go(func() { s.serve(ctx, f) })
	}
	close(s.ready)
	events := make(chan event, 1)
	wg.Go(func() { listen(ctx, events) })
	tick := time.NewTicker(lookPeriod)
	defer tick.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	var gone []netip.Addr
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			gone = append(gone, e.gone...)
			due.Reset(debounce)
			continue
		case <-tick.C:
		case <-due.C:
		}
		if s.look(patience, gone...) {
			due.Reset(patience / 4) // something is missing: the time for it runs
		}
		gone = gone[:0]
		s.tidy()
	}
}

// look reads the machine and decides anew. An address that is missing is waited for. gone are addresses that went since
// the last look, perhaps to come back.
func (s *Source) look(wait time.Duration, gone ...netip.Addr) (waiting bool) {
	machine, err := s.cfg.Read()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touched = s.touched || slices.ContainsFunc(gone, func(a netip.Addr) bool { return slices.Contains(s.state.Node, a) })
	if err != nil {
		s.say(err.Error())
		return true
	}
	s.machine = machine
	next := Decide(s.choices, machine, s.cfg.Wish)
	if waiting = s.losing(next); waiting && wait > 0 {
		if s.lost.IsZero() {
			s.lost = time.Now()
		}
		if time.Since(s.lost) < wait {
			return true
		}
	}
	if !waiting {
		s.lost = time.Time{}
	}
	if !slices.Equal(addrsOf(next), addrsOf(s.choices)) {
		s.lost, s.since = time.Time{}, time.Now()
		s.announce(next)
	}
	s.choices = next
	if state := stateOf(next, machine); s.touched || !state.equal(s.state) {
		s.state, s.touched = state, false
		s.turn++
		for _, f := range s.followers {
			f.poke()
		}
	}
	s.say(s.addSpares())
	return false
}

// losing says whether next gives up an address for a spare one.
func (s *Source) losing(next []Choice) bool {
	for i, c := range next {
		if c.Spare && !s.choices[i].Spare {
			return true
		}
	}
	return false
}

// announce logs a move, and as something that needs attention one to a spare address.
func (s *Source) announce(next []Choice) {
	if s.losing(next) {
		klog.ErrorS(nil, "The node lost an address; what is on it goes on among itself, and `svcplane status` says more", "addresses", addrsOf(next), "were", addrsOf(s.choices))
		return
	}
	klog.InfoS("The node's addresses changed", "addresses", addrsOf(next), "were", addrsOf(s.choices))
}

func addrsOf(choices []Choice) (all []netip.Addr) {
	for _, c := range choices {
		all = append(all, c.Addr)
	}
	return all
}

// say logs what is wrong with the last look, once; s.mu is held.
func (s *Source) say(problem string) {
	if problem != "" && problem != s.problem {
		klog.ErrorS(nil, "The machine's addresses cannot be followed; it is tried again", "reason", problem)
	}
	s.problem = problem
}

func (f *follower) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// serve calls one follower with the newest State until it succeeds.
func (s *Source) serve(ctx context.Context, f *follower) {
	wait := retryFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		s.mu.Lock()
		state, turn := s.state, s.turn
		s.mu.Unlock()
		err := f.do(ctx, state)
		s.mu.Lock()
		first := err != nil && f.err == nil
		if f.err = err; err == nil {
			f.turn, wait = turn, retryFirst
		}
		s.mu.Unlock()
		if err == nil {
			s.tidy()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if first {
			klog.ErrorS(err, "Following the node's address failed; it is tried again", "who", f.who)
		}
		time.AfterFunc(wait, f.poke)
		wait = min(2*wait, retryLast)
	}
}

// Figure is for people: "192.0.2.1 on eth0".
func (s *Source) Figure() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var texts []string
	for _, c := range s.choices {
		link := c.Link
		if c.Spare {
			link = s.cfg.Link
		}
		texts = append(texts, fmt.Sprintf("%s on %s", c.Addr, link))
	}
	return strings.Join(texts, ", ")
}

// Trouble says what is wrong with the addresses, and what to do; empty: nothing.
func (s *Source) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, c := range s.choices {
		if c.Spare {
			all = append(all, s.missing(c))
		}
	}
	for _, d := range s.cfg.FlagAddresses {
		if !d.At.Addr().IsUnspecified() && !d.At.Addr().IsLoopback() && !s.has(d.At.Addr()) {
			all = append(all, fmt.Sprintf("--%s %s: no link that is up has that address, so nobody gets there: add it, or start with another", d.Flag, d.At))
		}
	}
	for _, f := range s.followers {
		if f.err != nil {
			all = append(all, fmt.Sprintf("%s: %v", f.who, f.err))
		}
	}
	if s.problem != "" {
		all = append(all, s.problem)
	}
	return strings.Join(all, "; ")
}

func (s *Source) missing(c Choice) string {
	since := s.since.Format(time.TimeOnly)
	if pinned, ok := s.cfg.pinned(c.Addr); ok {
		return fmt.Sprintf("--node-ip %s: no link that is up has that address since %s; until one has, what is on this node reaches it at %s, and nobody else does: add the address, or start with another", pinned, since, c.Addr)
	}
	family := "IPv4"
	if c.Addr.Is6() {
		family = "IPv6"
	}
	return fmt.Sprintf("the machine has no %s address but loopback since %s; until it has one, what is on this node reaches it at %s, and nobody else does: bring a link up", family, since, c.Addr)
}

func (s *Source) has(a netip.Addr) bool {
	return slices.ContainsFunc(s.machine, func(c Candidate) bool { return c.Addr() == a && c.Up })
}
