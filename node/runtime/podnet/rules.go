package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"svcplane/node/runtime/sandbox"
)

// Port is a port of the node that leads to a pod.
type Port struct {
	Protocol string     // TCP, UDP or SCTP, which is refused
	HostIP   netip.Addr // the node's address it holds for; zero for all
	HostPort uint16
	PodPort  uint16
}

// PortError is a host port that can't be served.
type PortError struct {
	Taken bool // by another pod
	text  string
}

func (e *PortError) Error() string { return e.text }

// portMaps are the ports of the node that lead to the pod's addresses.
func (p *Pod) portMaps() []sandbox.PortMap {
	var list []sandbox.PortMap
	for _, port := range p.Ports {
		for _, addr := range p.Addrs() {
			if port.HostIP.IsValid() && port.HostIP.Is4() != addr.Is4() {
				continue
			}
			list = append(list, sandbox.PortMap{
				Protocol: port.Protocol, HostIP: port.HostIP, HostPort: port.HostPort,
				Pod: addr, PodPort: port.PodPort, Link: sandbox.LinkName(p.ID),
			})
		}
	}
	return list
}

// checkPorts refuses host ports that can't be served; with mu held.
func (n *Network) checkPorts(pod *Pod) error {
	for _, mine := range pod.portMaps() {
		if mine.Protocol == "SCTP" {
			return &PortError{text: fmt.Sprintf("host port %d/SCTP of pod %s: only TCP and UDP are served", mine.HostPort, pod.Name)}
		}
		for _, other := range n.pods {
			if other.ID == pod.ID {
				continue
			}
			taken := slices.ContainsFunc(other.portMaps(), func(p sandbox.PortMap) bool {
				return p.Protocol == mine.Protocol && p.HostPort == mine.HostPort &&
					(p.HostIP == mine.HostIP || !p.HostIP.IsValid() || !mine.HostIP.IsValid())
			})
			if taken {
				return &PortError{Taken: true, text: fmt.Sprintf("host port %d/%s of pod %s: pod %s has it; give one of them another hostPort",
					mine.HostPort, mine.Protocol, pod.Name, other.Name)}
			}
		}
	}
	return nil
}

// prefixes are those of pods, one of a family.
func (n *Network) prefixes() []netip.Prefix {
	return slices.DeleteFunc([]netip.Prefix{n.cfg.PodCIDR, n.cfg.PodCIDR6}, func(p netip.Prefix) bool { return !p.IsValid() })
}

// applyRules renders our netfilter rules from all pods there are.
func (n *Network) applyRules() error {
	n.rules.Lock() // what was seen last is also applied last
	defer n.rules.Unlock()
	var ports []sandbox.PortMap
	n.mu.Lock()
	for _, m := range n.members() {
		ports = append(ports, m.portMaps()...)
	}
	n.mu.Unlock()
	var errs []error
	for _, pods := range n.prefixes() {
		errs = append(errs, sandbox.Rules{Pods: pods, Local: n.cfg.NoMasquerade, Ports: ports, Own: n.cfg.Own}.Apply())
	}
	return errors.Join(errs...)
}

// sweep is held while flows of the past are removed, and counts who asked for that.
type sweep struct {
	sync.Mutex
	asked atomic.Uint64
	done  uint64
	rests time.Time // until then the kernel's table is not listed again
}

// maxSweepRest bounds how long the end of a pod waits for the end of its flows.
const maxSweepRest = time.Second

// endStaleFlows removes from the kernel's connection table what holds on to pods and host ports of the past. Many pods
// that go at once share a look at the table: one that began after a pod had gone counts for that pod, and the next rests ten times
// as long as the last took, so that a large table costs a tenth of a processor at most. What fails is tried again with the next
// pod, and holds nobody up.
func (n *Network) endStaleFlows() {
	asked := n.sweep.asked.Add(1)
	n.sweep.Lock()
	defer n.sweep.Unlock()
	if n.sweep.done >= asked {
		return
	}
	time.Sleep(time.Until(n.sweep.rests))
	began := time.Now()
	defer func() { n.sweep.rests = time.Now().Add(min(10*time.Since(began), maxSweepRest)) }()
	upTo := n.sweep.asked.Load()
	flows := sandbox.Flows{Alive: map[netip.Addr]bool{}}
	n.mu.Lock()
	for _, m := range n.members() {
		flows.Ports = append(flows.Ports, m.portMaps()...)
		for _, addr := range m.Addrs() {
			flows.Alive[addr] = true
		}
	}
	n.mu.Unlock()
	var errs []error
	for _, flows.Pods = range n.prefixes() {
		errs = append(errs, flows.EndStale())
	}
	if err := errors.Join(errs...); err != nil {
		klog.ErrorS(err, "datagrams may go on to pods that have gone")
		return
	}
	n.sweep.done = upTo
}
