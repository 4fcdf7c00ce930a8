package switchover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"svcplane/proxy"
)

// Kind is a sort of data plane.
type Kind struct {
	// Open makes one. It changes nothing in the kernel that connections meet.
	Open func(context.Context) (proxy.Exchangeable, error)
	// ProvenAtOnce: Prove works before the first Resync, so a data plane that cannot serve here is found out by New.
	ProvenAtOnce bool
	// There says whether the kernel holds something of one, be it a process' of the past.
	There func(context.Context) (bool, error)
	// Cleanup removes that when Open does not work.
	Cleanup func(context.Context) error
}

// Config is what a Switch needs.
type Config struct {
	// Kinds by name; two of them.
	Kinds map[string]Kind
	// Modes are the kinds that are configured: the first that can serve here does, and when it turns out not to be
	// in the path any more, the last. File is where a switch to another one is remembered: it counts until Modes
	// change.
	Modes []string
	File  string
	// Drain is how long connections of a data plane may go on that does not serve any more, where To is not asked.
	Drain time.Duration
	// Proof is how long a data plane has to prove itself; 10 s when zero.
	Proof time.Duration
	// Poll is the time between two looks at those; 1 s when zero.
	Poll time.Duration
}

// Loop is the Proxy that a Switch is the Dataplane of.
type Loop interface {
	Ready() <-chan struct{}
	Table() proxy.Table
	// Exclusively runs a function with the wanted Table while the Proxy changes nothing in the kernel.
	Exclusively(func(wanted proxy.Table) error) error
}

// Switch is the data plane that serves and, at times, another one. It is safe for concurrent use as far as a
// Dataplane is.
type Switch struct {
	cfg    Config
	runner runner

	switching atomic.Bool // To is at work
	moving    sync.Mutex  // held while who serves changes

	mu      sync.Mutex
	loop    Loop // nil until Run
	state   state
	phase   Phase
	current *member
	other   *member // the next while proving, the last while draining; else nil
	flipped time.Time
	left    int
	source  []netip.Addr // the node's addresses, if they changed since New
	problem string       // why the last switch came to nothing
	reason  string       // why it is not the one that is preferred
}

// member is a data plane in use.
type member struct {
	name  string
	plane proxy.Exchangeable
	acts  atomic.Bool                            // it has got the table and a role
	stale atomic.Bool                            // it missed a change
	unfit atomic.Pointer[proxy.UnsupportedError] // the last thing that it will never be able to do
}

// Phase is how far a switch has come.
type Phase string

// The phases of a switch.
const (
	Settled  Phase = "settled"
	Proving  Phase = "proving"
	Draining Phase = "draining"
)

// New opens the data plane that a switch has chosen, or else the first configured one that can serve here, and another
// one if the kernel holds it, which drains from the first Resync on.
func New(ctx context.Context, cfg Config) (*Switch, error) {
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	if cfg.Proof == 0 {
		cfg.Proof = 10 * time.Second
	}
	s := &Switch{cfg: cfg, phase: Settled}
	var err error
	if s.state, err = readState(cfg.File); err != nil {
		return nil, err
	}
	if s.state.Asked != asked(cfg.Modes) {
		s.state.Chosen, s.state.Reason, s.state.Asked = "", "", asked(cfg.Modes)
	}
	modes := cfg.Modes
	if len(modes) == 0 {
		return nil, errors.New("choosing a data plane: none is configured")
	}
	if _, known := cfg.Kinds[s.state.Chosen]; known && s.state.Chosen != modes[0] {
		modes = append([]string{s.state.Chosen}, modes...)
		s.reason = s.state.Reason
	}
	for _, mode := range modes {
		if s.current, err = s.openProven(ctx, mode); err == nil {
			return s, s.findOther(ctx)
		}
		s.reason = fmt.Sprintf("not %s: %v", mode, err)
	}
	return nil, err
}

// asked is Modes in the file.
func asked(modes []string) string { return strings.Join(modes, ",") }

// openProven leaves nothing in the kernel that was not there when the data plane cannot serve here.
func (s *Switch) openProven(ctx context.Context, name string) (*member, error) {
	m, err := s.open(ctx, name)
	if err != nil || !s.cfg.Kinds[name].ProvenAtOnce {
		return m, err
	}
	before, err := s.cfg.Kinds[name].There(ctx)
	if err != nil {
		return nil, err
	}
	if err = m.plane.Prove(ctx); err == nil {
		return m, nil
	}
	if !before {
		err = errors.Join(err, m.plane.Close(ctx))
	}
	return nil, err
}

func (s *Switch) open(ctx context.Context, name string) (*member, error) {
	kind, ok := s.cfg.Kinds[name]
	if !ok {
		return nil, fmt.Errorf("there is no data plane %q", name)
	}
	plane, err := kind.Open(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	source := s.source
	s.mu.Unlock()
	if source != nil {
		if err := plane.SetSource(ctx, source); err != nil {
			return nil, err
		}
	}
	return &member{name: name, plane: plane}, nil
}

// findOther looks in the kernel for what another process has left.
func (s *Switch) findOther(ctx context.Context) error {
	for name, kind := range s.cfg.Kinds {
		if name == s.current.name {
			continue
		}
		there, err := kind.There(ctx)
		if err != nil || !there {
			return err
		}
		if s.other, err = s.open(ctx, name); err != nil {
			klog.ErrorS(err, "another data plane has left something in the kernel and cannot be opened; what it has is removed", "dataPlane", name)
			return kind.Cleanup(ctx)
		}
		s.phase, s.flipped = Draining, time.Now()
		until := time.Now().Add(s.cfg.Drain)
		if s.state.Draining == name && s.state.Until.Before(until) {
			until = s.state.Until
		}
		s.state.Draining, s.state.Until = name, until
	}
	return nil
}

// Mode is the name of the data plane that serves.
func (s *Switch) Mode() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.name
}

// SetSource gives the node's addresses to the data planes, also to those that are opened later.
func (s *Switch) SetSource(ctx context.Context, source []netip.Addr) error {
	s.moving.Lock() // not while another one is on its way
	defer s.moving.Unlock()
	s.mu.Lock()
	s.source = source
	s.mu.Unlock()
	current, other := s.members()
	err := current.plane.SetSource(ctx, source)
	if other != nil {
		err = errors.Join(err, other.plane.SetSource(ctx, source))
	}
	return err
}

func (s *Switch) members() (current, other *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.other
}

// Sync passes a change to the data plane that serves, and to the other one. The latter gets the whole Table later if it fails.
func (s *Switch) Sync(ctx context.Context, change proxy.Change) error {
	current, other := s.members()
	if err := current.plane.Sync(ctx, change); err != nil {
		return current.noting(err)
	}
	if other == nil || other.stale.Load() {
		return nil
	}
	if err := other.plane.Sync(ctx, change); err != nil {
		other.stale.Store(true)
		klog.ErrorS(err, "the data plane that does not serve missed a change; it gets the whole table later", "dataPlane", other.name)
	}
	return nil
}

// Resync gives the whole Table to both. The first Resync of a process gives them their roles, too.
func (s *Switch) Resync(ctx context.Context, table proxy.Table) error {
	current, other := s.members()
	if err := current.plane.Resync(ctx, table); err != nil {
		return current.noting(err)
	}
	if other != nil {
		s.refresh(ctx, other, table)
	}
	if current.acts.Load() {
		return nil
	}
	if other != nil {
		if err := s.carryOver(ctx, table, other, current, time.Time{}); err != nil {
			return err
		}
	}
	s.mu.Lock()
	now := s.state
	s.mu.Unlock()
	if err := now.write(s.cfg.File); err != nil {
		return err
	}
	if err := s.roles(ctx, current, other); err != nil {
		return err
	}
	current.acts.Store(true)
	return nil
}

// noting remembers when something is asked of a data plane that only another one can do.
func (m *member) noting(err error) error {
	if unfit := proxy.UnsupportedError(""); errors.As(err, &unfit) {
		m.unfit.Store(&unfit)
	}
	return err
}

// refresh gives the data plane that does not serve the table; it is tried again when that fails.
func (s *Switch) refresh(ctx context.Context, other *member, table proxy.Table) {
	err := other.plane.Resync(ctx, table)
	other.stale.Store(err != nil)
	if err != nil && ctx.Err() == nil {
		klog.ErrorS(err, "the data plane that does not serve does not get the table; it is tried again", "dataPlane", other.name)
	}
}

// roles gives new connections to active; draining is nil when that is the only one.
func (s *Switch) roles(ctx context.Context, active, draining *member) error {
	if draining == nil {
		return active.plane.Act(ctx, proxy.Sole)
	}
	return errors.Join(active.plane.Act(ctx, proxy.Active), draining.plane.Act(ctx, proxy.Draining))
}

// carryOver copies the session affinity of clients that have come since from one data plane to the other.
func (s *Switch) carryOver(ctx context.Context, table proxy.Table, from, to *member, since time.Time) error {
	all, err := from.plane.Affinities(ctx, table)
	if err != nil {
		return fmt.Errorf("reading the clients with session affinity of %s: %w", from.name, err)
	}
	var fresh []proxy.ClientAffinity
	for _, one := range all {
		if one.Last.After(since) {
			fresh = append(fresh, one)
		}
	}
	if err := to.plane.SetAffinities(ctx, fresh); err != nil {
		return fmt.Errorf("giving the clients with session affinity of %s to %s: %w", from.name, to.name, err)
	}
	return nil
}

// Dump reads what the data plane that serves has in force.
func (s *Switch) Dump(ctx context.Context) (proxy.Table, error) {
	current, _ := s.members()
	return current.plane.Dump(ctx)
}

// Close removes both.
func (s *Switch) Close(ctx context.Context) error {
	current, other := s.members()
	err := s.drop(ctx, current)
	if other != nil {
		err = errors.Join(err, s.drop(ctx, other))
	}
	return err
}

// drop ends what runs for a member, and removes it from the kernel.
func (s *Switch) drop(ctx context.Context, m *member) error {
	s.runner.stop(m)
	return m.plane.Close(ctx)
}
