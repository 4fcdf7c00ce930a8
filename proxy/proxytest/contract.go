package proxytest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"svcplane/catalog"
	"svcplane/proxy"
)

// Probe is one expectation.
type Probe struct {
	From string
	To   proxy.Address
	// Want is who may answer, all of whom must be met; Refused or Dropped that nobody does.
	Want    []string
	Refused bool
	Dropped bool
	// As is whose address the endpoint sees: "self", "node", or "" for either.
	As string
	// Affinity is that one client always meets the same one of Want.
	Affinity bool
}

// Scenario is Services and what must be seen of them.
type Scenario struct {
	Name     string
	Services []*catalog.Service
	Probes   []Probe
}

// Run puts every scenario into the data plane that open returns and looks at it from all sides. Between
// scenarios it changes the kernel by turns with Sync and Resync, so every one is also a transition.
func Run(t *testing.T, lab *Lab, plane proxy.Dataplane) {
	ctx := t.Context()
	must(t, plane.Resync(ctx, proxy.Table{}))
	var last proxy.Table
	for i, s := range Scenarios(lab) {
		t.Run(s.Name, func(t *testing.T) {
			wanted := lab.Table(s.Services...)
			if i%2 == 0 {
				must(t, plane.Sync(ctx, Step(last, wanted)))
			} else {
				must(t, plane.Resync(ctx, wanted))
			}
			last = wanted
			forgetFlows(t)
			CheckDump(t, plane, wanted)
			lab.CheckAll(t, s.Probes)
		})
	}
	must(t, plane.Close(ctx))
	CheckDump(t, plane, proxy.Table{})
}

// forgetFlows empties the connection tracking of the lab's node. A UDP client of this scenario may by chance have
// the port of one before, and would be taken for the same flow; in a running server the Proxy, not the data
// plane, removes what is stale.
func forgetFlows(t testing.TB) {
	must(t, netlink.ConntrackTableFlush(netlink.ConntrackTable))
}

// Table is what the Services amount to on the lab's node.
func (l *Lab) Table(services ...*catalog.Service) proxy.Table {
	var all []proxy.Frontend
	for _, svc := range services {
		all = append(all, proxy.Build(svc, l.Node)...)
	}
	return proxy.NewTable(all...)
}

// TableOf is what API objects amount to on a node, whatever happened before: of several Services that ask for one address
// that has it whom the API gave it, else the oldest, a load balancer before an external IP, else the first by name.
func TableOf(node proxy.Node, services []corev1.Service, endpointSlices []discoveryv1.EndpointSlice) proxy.Table {
	type bid struct {
		proxy.Frontend
		order string
	}
	var bids []bid
	for i := range services {
		key := catalog.Key{Namespace: services[i].Namespace, Name: services[i].Name}
		var own []*discoveryv1.EndpointSlice
		for j := range endpointSlices {
			if k, ok := catalog.KeyOfSlice(&endpointSlices[j]); ok && k == key {
				own = append(own, &endpointSlices[j])
			}
		}
		svc := catalog.Build(&services[i], own)
		for _, f := range proxy.Build(svc, node) {
			given, balancer := isGiven(svc, f.Address, node), slices.Contains(svc.LoadBalancerIPs, f.Addr())
			bids = append(bids, bid{f, fmt.Sprintf("%t %020d %t %s\x00%s", !given, svc.Created.Unix()-time.Time{}.Unix(), !balancer, key.Namespace, key.Name)})
		}
	}
	slices.SortStableFunc(bids, func(a, b bid) int { return cmp.Compare(a.order, b.order) })
	owners := map[proxy.Address]catalog.Key{}
	var all []proxy.Frontend
	for _, b := range bids {
		if owner, taken := owners[b.Address]; !taken || owner == b.Service {
			owners[b.Address] = b.Service
			all = append(all, b.Frontend)
		}
	}
	return proxy.NewTable(all...)
}

// isGiven says whether an address of a Service is its cluster IP or node port.
func isGiven(svc *catalog.Service, addr proxy.Address, node proxy.Node) bool {
	return slices.ContainsFunc(svc.Ports, func(p catalog.Port) bool {
		return p.Protocol == addr.Protocol && (p.Port == addr.Port() && slices.Contains(svc.ClusterIPs, addr.Addr()) ||
			p.NodePort == addr.Port() && slices.Contains(node.Addrs, addr.Addr()))
	})
}

// Step is the change that turns one Table into another.
func Step(from, to proxy.Table) proxy.Change {
	old := map[proxy.ID]proxy.Frontend{}
	for _, f := range from.Frontends {
		old[f.ID] = f
	}
	var change proxy.Change
	for _, f := range to.Frontends {
		if was, ok := old[f.ID]; !ok || !was.Equal(f) {
			change.Set = append(change.Set, f)
		}
		delete(old, f.ID)
	}
	change.Remove = slices.Collect(maps.Keys(old))
	return change
}

// CheckDump fails the test unless the kernel holds exactly wanted.
func CheckDump(t testing.TB, plane proxy.Dataplane, wanted proxy.Table) {
	t.Helper()
	have, err := plane.Dump(context.Background())
	must(t, err)
	for _, line := range wanted.Diff(have) {
		t.Errorf("the kernel does not hold what was wanted: %s", line)
	}
}

// CheckAll checks what is dropped all at once, because it takes a timeout to see, and then the rest in order.
func (l *Lab) CheckAll(t testing.TB, probes []Probe) {
	t.Helper()
	var wg sync.WaitGroup
	for _, p := range probes {
		if p.Dropped {
			wg.Go(func() { l.Check(t, p) })
		}
		if p.To.Protocol == corev1.ProtocolUDP && (p.Dropped || p.Refused) {
			wg.Go(func() { l.checkUnconnected(t, p) })
		}
	}
	wg.Wait()
	for _, p := range probes {
		if !p.Dropped {
			l.Check(t, p)
		}
		if p.To.Protocol == corev1.ProtocolUDP && len(p.Want) > 0 {
			l.checkUnconnected(t, p)
		}
	}
}

// checkUnconnected is for datagrams of a socket that is not connected. They are one flow: all go to one endpoint. One that
// is refused or dropped is not permitted to leave the node, as kube-proxy's rules have it, and in other network namespaces
// the socket learns nothing, unless it asks for errors (IP_RECVERR).
func (l *Lab) checkUnconnected(t testing.TB, p Probe) {
	t.Helper()
	from := l.Hosts[p.From]
	got, err := from.Ask(p.To, 3)
	want := Probe{Want: p.Want, As: p.As, Dropped: len(p.Want) == 0 && p.From != "node"}
	switch {
	case err != nil:
		t.Errorf("%s -> %s, not connected: %v", p.From, p.To, err)
	case len(p.Want) == 0 && p.From == "node":
		if !got.Denied {
			t.Errorf("%s -> %s, not connected: got: %s; wanted: not permitted", p.From, p.To, got)
		}
	default:
		if problem := l.judge(want, from, got); problem != "" {
			t.Errorf("%s -> %s, not connected: %s", p.From, p.To, problem)
		}
	}
}

// affinityTries are so many that without affinity three endpoints, or two, look like one less than once in a million.
const affinityTries = 24

// Check makes connections until everything expected was seen, and fails at the first that is not expected.
func (l *Lab) Check(t testing.TB, p Probe) {
	t.Helper()
	from := l.Hosts[p.From]
	left := map[string]bool{}
	for _, name := range p.Want {
		left[name] = true
	}
	first := ""
	for try := 0; try < 200 && (try == 0 || len(left) > 0 || p.Affinity && try < affinityTries); try++ {
		got, err := from.Dial(p.To)
		if err != nil {
			t.Errorf("%s -> %s: %v", p.From, p.To, err)
			return
		}
		if problem := l.judge(p, from, got); problem != "" {
			t.Errorf("%s -> %s: %s", p.From, p.To, problem)
			return
		}
		if first == "" {
			first = got.Name
		}
		if p.Affinity {
			clear(left)
			if got.Name != first {
				t.Errorf("%s -> %s: met %s and then %s, and should have stayed", p.From, p.To, first, got.Name)
				return
			}
		}
		delete(left, got.Name)
	}
	for name := range left {
		t.Errorf("%s -> %s: never met %s", p.From, p.To, name)
	}
	if p.Refused {
		from.checkRefusal(t, p.To)
	}
}

// checkRefusal holds that a refusal comes at once. One try in ten is enough: a machine that is busy is slow now and
// then, a refusal that waits for something always.
func (h *Host) checkRefusal(t testing.TB, to proxy.Address) {
	t.Helper()
	took := time.Duration(0)
	for range 10 {
		began := time.Now()
		if got, err := h.Dial(to); err != nil || !got.Refused {
			t.Errorf("%s -> %s: refused once, and then: %s, %v", h.Name, to, got, err)
			return
		}
		if took = time.Since(began); took <= refuseTimeout {
			return
		}
	}
	t.Errorf("%s -> %s: refused after %s, and should have been at once", h.Name, to, took)
}

func (l *Lab) judge(p Probe, from *Host, got Outcome) string {
	switch {
	case p.Refused != got.Refused || p.Dropped != got.Dropped || !p.Refused && !p.Dropped && !slices.Contains(p.Want, got.Name):
		return fmt.Sprintf("got: %s; wanted: %s", got, p.wanted())
	case got.Name == "" || p.As == "":
		return ""
	}
	whose := map[string]*Host{"self": from, "node": l.Hosts["node"]}[p.As]
	if got.Seen != whose.IPv4 && got.Seen != whose.IPv6 {
		return fmt.Sprintf("%s saw %s, and should have seen the address of %s", got.Name, got.Seen, whose.Name)
	}
	return ""
}

func (p Probe) wanted() string {
	switch {
	case p.Refused:
		return "refused"
	case p.Dropped:
		return "dropped"
	}
	return fmt.Sprint(p.Want)
}
