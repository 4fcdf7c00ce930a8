package address

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// inside says that this process has a network namespace of its own.
const inside = "SVCPLANE_ADDRESS_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

// sh runs commands of ip(8), separated by semicolons.
func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// machine is a link with a neighbour, in the namespace of this process.
func machine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	sh(t, `ip link set lo up; ip link add eth0 type veth peer name peer0; ip link set peer0 up; ip link set eth0 addrgenmode none up
		ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad; ip route add default via 192.0.2.2`)
	t.Cleanup(func() { sh(t, "ip link del eth0; ip link del sp-node 2>/dev/null || true") })
}

// follows is a follower that hands on each State that it gets.
type follows chan State

func (c follows) follow(ctx context.Context, s State) error {
	select {
	case c <- s:
	case <-ctx.Done():
	}
	return nil
}

// next waits for a State with these addresses.
func (c follows) next(t *testing.T, want ...string) {
	t.Helper()
	var last []string
	for deadline := time.After(10 * time.Second); ; {
		select {
		case s := <-c:
			last = nil
			for _, a := range s.Node {
				last = append(last, a.String())
			}
			if slices.Equal(last, want) {
				return
			}
		case <-deadline:
			t.Fatalf("no State with %s within ten seconds, but last of %s", want, last)
		}
	}
}

func start(t *testing.T, cfg Config) (*Source, follows) {
	t.Helper()
	now, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	s, c := New(cfg, now), make(follows)
	s.Follow("test", c.follow)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	return s, c
}

func TestSourceFollowsTheMachine(t *testing.T) {
	machine(t)
	s, c := start(t, Config{Wish: Wish{Spares: spares}})
	if got := s.Figure(); got != "192.0.2.1 on eth0, 2001:db8::1 on eth0" || s.Trouble() != "" {
		t.Fatalf("at the start: %s; %s", got, s.Trouble())
	}
	sh(t, "ip addr del 192.0.2.1/24 dev eth0; ip addr add 192.0.2.11/24 dev eth0; ip route add default via 192.0.2.2")
	c.next(t, "192.0.2.11", "2001:db8::1")
	// gone and back before anybody has moved: what hung on it in the kernel is gone all the same
	sh(t, "ip addr del 192.0.2.11/24 dev eth0; ip addr add 192.0.2.11/24 dev eth0; ip route add default via 192.0.2.2")
	c.next(t, "192.0.2.11", "2001:db8::1")
	sh(t, "ip addr flush dev eth0")
	c.next(t, "10.244.0.0", "fd00:244::")
	if out := sh(t, "ip addr show sp-node"); !strings.Contains(out, "10.244.0.0/32") || !strings.Contains(out, "fd00:244::/128") {
		t.Errorf("the spare addresses are not there: %s", out)
	}
	if trouble := s.Trouble(); !strings.Contains(trouble, "no IPv4 address") || !strings.Contains(trouble, "no IPv6 address") {
		t.Errorf("trouble: %q", trouble)
	}
	sh(t, "ip addr add 192.0.2.12/24 dev eth0; ip addr add 2001:db8::12/64 dev eth0 nodad")
	c.next(t, "192.0.2.12", "2001:db8::12")
	for deadline := time.Now().Add(10 * time.Second); exec.Command("ip", "link", "show", "sp-node").Run() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the spare addresses stay")
		}
	}
	if trouble := s.Trouble(); trouble != "" {
		t.Errorf("trouble: %q", trouble)
	}
}

func TestSourceKeepsToWhatWasAskedFor(t *testing.T) {
	machine(t)
	sh(t, "ip addr add 198.51.100.1/24 dev eth0")
	door := FlagAddress{Flag: "api-address", At: netip.MustParseAddrPort("198.51.100.1:6443")}
	s, c := start(t, Config{Wish: Wish{Pinned: []netip.Addr{netip.MustParseAddr("198.51.100.1")}, Spares: spares[:1]}, FlagAddresses: []FlagAddress{door}})
	sh(t, "ip addr del 198.51.100.1/24 dev eth0")
	c.next(t, "10.244.0.0")
	for _, want := range []string{"--node-ip 198.51.100.1", "--api-address 198.51.100.1:6443"} {
		if !strings.Contains(s.Trouble(), want) {
			t.Errorf("trouble %q does not say %q", s.Trouble(), want)
		}
	}
	sh(t, "ip addr add 198.51.100.1/24 dev eth0")
	c.next(t, "198.51.100.1")
}

// TestFollowersAreAskedAgain: one that fails holds up nobody, and gets the newest.
func TestFollowersAreAskedAgain(t *testing.T) {
	now := []Candidate{on("eth0", "192.0.2.1/24", outward)}
	var read atomic.Pointer[[]Candidate]
	read.Store(&now)
	s := New(Config{Wish: Wish{Spares: spares[:1]}, Read: func() ([]Candidate, error) { return *read.Load(), nil }}, now)
	fine, late := make(follows, 8), make(follows, 8)
	var tries atomic.Int32
	s.Follow("late", func(ctx context.Context, now State) error {
		if tries.Add(1) < 3 {
			return errors.New("not yet")
		}
		return late.follow(ctx, now)
	})
	s.Follow("fine", fine.follow)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	next := []Candidate{on("eth0", "192.0.2.2/24", outward)}
	read.Store(&next)
	s.look(0)
	fine.next(t, "192.0.2.2")
	late.next(t, "192.0.2.2")
	cancel()
	if err := <-done; err != nil || tries.Load() != 3 {
		t.Errorf("%d tries, %v", tries.Load(), err)
	}
}
