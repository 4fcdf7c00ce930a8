package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"svcplane/listeners"
	"svcplane/node/runtime/sandbox"
)

// Config is what a Network needs to know.
type Config struct {
	Dir          string         // its record is in it; it has to be there when Begin is called
	NodeIPs      []netip.Addr   // source addresses towards pods, one of a family; without one the kernel chooses
	PodCIDR      netip.Prefix   // IPv4; pods get their addresses from it
	PodCIDR6     netip.Prefix   // IPv6, at least as large; pods get a second address from it unless it is zero
	NoMasquerade []netip.Prefix // destinations besides those two that see pods' own addresses: the Service CIDRs
	Own          listeners.Set  // svcplane's on the node, whose ports lead to no pod
	MTU          int            // of pods' links; 0 takes that of the default route
}

// Pod is a pod with a network namespace of its own.
type Pod struct {
	ID    string // its first twelve digits, which are hexadecimal, name its link
	Name  string // namespace/name
	IP    netip.Addr
	IP6   netip.Addr // zero with one address family
	Ports []Port
}

// Addrs are the pod's addresses, the IPv4 one first.
func (p *Pod) Addrs() []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{p.IP, p.IP6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// Network joins pods to the network namespace it is used in.
type Network struct {
	cfg  Config
	pool *sandbox.Pool // from Begin on

	mu    sync.Mutex
	links sandbox.Network
	pods  map[string]*member

	rules sync.Mutex // held while the host's rules are written
	sweep sweep
}

// member is a pod from Add to Release. All but op is guarded by Network.mu.
type member struct {
	Pod
	attached bool
	gone     bool       // it is detached
	op       sync.Mutex // one change of its link at a time
}

// New checks cfg; Begin touches the machine.
func New(cfg Config) (*Network, error) {
	if _, err := sandbox.NewPool(cfg.PodCIDR, 0); err != nil {
		return nil, err
	}
	return &Network{cfg: cfg, links: sandbox.Network{NodeIPs: cfg.NodeIPs, MTU: cfg.MTU}, pods: map[string]*member{}}, nil
}

// Begin reads the record and has the machine forward packets. What follows are Adopt for every pod that there is, and Settle.
func (n *Network) Begin() error {
	k, err := load(n.cfg.Dir)
	if err != nil {
		return err
	}
	if n.pool, err = sandbox.NewPool(n.cfg.PodCIDR, k.NextAddress); err != nil {
		return err
	}
	return n.enableForwarding(k)
}

// Settle removes links of nobody, and brings the host's rules and its table of connections to the pods that there are.
func (n *Network) Settle() error {
	if err := n.net().Prune(n.hasLink); err != nil {
		return err
	}
	if err := n.applyRules(); err != nil {
		return err
	}
	n.endStaleFlows()
	return nil
}

// Take gives a pod its addresses; the second one is zero with one address family.
func (n *Network) Take(id string) (ip, ip6 netip.Addr, err error) {
	if ip, err = n.pool.Take(id); err != nil {
		return ip, ip6, err
	}
	if n.cfg.PodCIDR6.IsValid() {
		ip6 = n.pool.Beside(ip, n.cfg.PodCIDR6)
	}
	if err := n.saveNext(); err != nil {
		n.pool.Release(ip, id)
		return netip.Addr{}, netip.Addr{}, err
	}
	return ip, ip6, nil
}

// Add has the pod, which took its addresses, count; the error is a PortError if its host ports can't be served.
func (n *Network) Add(pod Pod) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.checkPorts(&pod); err != nil {
		return err
	}
	n.pods[pod.ID] = &member{Pod: pod}
	return nil
}

// Adopt is Take and Add for a pod of an earlier run.
func (n *Network) Adopt(pod Pod) error {
	if err := n.pool.Reserve(pod.IP, pod.ID); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pods[pod.ID] = &member{Pod: pod, attached: true}
	return nil
}

// Attach makes the pod's link into ns, routes its addresses to it, and leads its host ports there.
func (n *Network) Attach(id string, ns *os.File) error {
	m := n.member(id)
	if m == nil {
		return fmt.Errorf("join pod %s to the network: it has no address", sandbox.Short(id))
	}
	if err := n.attach(m, ns); err != nil {
		return err
	}
	if len(m.Ports) == 0 {
		return nil
	}
	if err := n.applyRules(); err != nil {
		return err
	}
	n.endStaleFlows()
	return nil
}

func (n *Network) attach(m *member, ns *os.File) error {
	m.op.Lock()
	defer m.op.Unlock()
	if err := n.net().Attach(m.ID, ns, m.Addrs()); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	m.attached = true
	return nil
}

// Detach takes the pod off the network, however far Attach came. A pod that is not known may have a link all the same.
func (n *Network) Detach(id string) error {
	m := n.member(id)
	if m == nil {
		return errors.Join(n.net().Detach(id), sandbox.Unpublish(sandbox.NetnsName(id)))
	}
	m.op.Lock()
	errs := []error{n.net().Detach(id), sandbox.Unpublish(sandbox.NetnsName(id))}
	n.mu.Lock()
	m.gone = true
	n.mu.Unlock()
	m.op.Unlock()
	if len(m.Ports) > 0 {
		errs = append(errs, n.applyRules())
	}
	n.endStaleFlows()
	return errors.Join(errs...)
}

// Release gives the addresses and host ports of a pod back, which is detached, or was never attached.
func (n *Network) Release(id string, ip netip.Addr) {
	n.mu.Lock()
	delete(n.pods, id)
	n.mu.Unlock()
	n.pool.Release(ip, id)
}

// SetNodeIPs follows the node's addresses: it puts the routes to all pods in order.
func (n *Network) SetNodeIPs(addrs []netip.Addr) error {
	n.mu.Lock()
	n.links.NodeIPs = addrs
	all := n.members()
	n.mu.Unlock()
	var errs []error
	for _, m := range all {
		errs = append(errs, n.reroute(m))
	}
	return errors.Join(errs...)
}

// Reroute puts the routes to a pod to what Attach would make now.
func (n *Network) Reroute(id string) error {
	if m := n.member(id); m != nil {
		return n.reroute(m)
	}
	return nil
}

// reroute leaves a pod alone that is being made: Attach comes after, or was before and is repeated here.
func (n *Network) reroute(m *member) error {
	m.op.Lock()
	defer m.op.Unlock()
	n.mu.Lock()
	joined, links := m.attached && !m.gone, n.links
	n.mu.Unlock()
	if !joined {
		return nil
	}
	if err := links.Reroute(m.ID, m.Addrs()); err != nil {
		return fmt.Errorf("lead to pod %s from the node's new address: %w", m.Name, err)
	}
	return nil
}

// net is the network as pods are joined to it now.
func (n *Network) net() sandbox.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links
}

func (n *Network) member(id string) *member {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pods[id]
}

// members are the pods that count; with mu held.
func (n *Network) members() []*member {
	var all []*member
	for _, m := range n.pods {
		if !m.gone {
			all = append(all, m)
		}
	}
	return all
}

func (n *Network) hasLink(link string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.members(), func(m *member) bool { return sandbox.LinkName(m.ID) == link })
}
