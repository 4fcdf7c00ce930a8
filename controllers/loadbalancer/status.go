package loadbalancer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// write puts addrs into the status, beside those that other nodes have put there, if they are not there already. done is false when the Service changed or went
// meanwhile: that event is on its way and starts over.
func (c *Controller) write(ctx context.Context, svc *corev1.Service, addrs []netip.Addr) (done bool, err error) {
	wanted := corev1.LoadBalancerStatus{}
	for _, a := range addrs {
		vip := corev1.LoadBalancerIPModeVIP
		wanted.Ingress = append(wanted.Ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: &vip})
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		wanted.Ingress = append(wanted.Ingress, c.othersIngress(svc)...)
	}
	if equality.Semantic.DeepEqual(svc.Status.LoadBalancer, wanted) {
		return true, nil
	}
	changed := svc.DeepCopy()
	changed.Status.LoadBalancer = wanted
	_, err = c.client.CoreV1().Services(svc.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	switch {
	case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("writing status.loadBalancer: %w", err)
	}
	return true, nil
}

// tell remembers what was decided and makes the Event of it, once.
func (c *Controller) tell(svc *corev1.Service, made Decision) {
	before := c.known[keyOf(svc)]
	if before.uid != svc.UID {
		before = known{}
	}
	now := known{uid: svc.UID, trouble: made.Trouble, addrs: made.Addrs}
	if len(made.Addrs) > 0 {
		now.ports = servicePorts(svc)
	}
	c.known[keyOf(svc)] = now
	c.given.Store(c.count())
	if made.Trouble != "" && made.Trouble != before.trouble {
		c.recorder.Event(svc, corev1.EventTypeWarning, "LoadBalancerAddressNotAvailable", made.Trouble)
	}
	if len(made.Addrs) > 0 && !slices.Equal(made.Addrs, before.addrs) && !slices.Equal(made.Addrs, statusAddrs(svc, c.othersAddrs())) {
		c.recorder.Eventf(svc, corev1.EventTypeNormal, "EnsuredLoadBalancer", "Ensured load balancer: %s", join(made.Addrs))
	}
}

func (c *Controller) forget(key types.NamespacedName) {
	delete(c.known, key)
	c.queue.Forget(key)
	c.given.Store(c.count())
}

func (c *Controller) count() (n int64) {
	for _, k := range c.known {
		if len(k.addrs) > 0 {
			n++
		}
	}
	return n
}

// holds says whether svc was given the port of addr, or of the address that the node had before. What the status of a
// Service said when it was first seen was given by the process before this one.
func (c *Controller) holds(svc *corev1.Service, addr netip.Addr, port PortKey) bool {
	k, ok := c.known[keyOf(svc)]
	if !ok || k.uid != svc.UID {
		return c.stands(addr, statusAddrs(svc, c.othersAddrs()))
	}
	return c.stands(addr, k.addrs) && slices.Contains(k.ports, port)
}

// stands says whether one of given is addr, or was the node's in its place.
func (c *Controller) stands(addr netip.Addr, given []netip.Addr) bool {
	return slices.ContainsFunc(given, func(a netip.Addr) bool {
		return a == addr || a.Is4() == addr.Is4() && !slices.Contains(*c.addrs.Load(), a)
	})
}

// statusAddrs are the addresses in the status but for those of other nodes.
func statusAddrs(svc *corev1.Service, others map[netip.Addr]bool) []netip.Addr {
	var addrs []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil && !others[a.Unmap()] {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

// othersIngress are the entries of the status that other nodes have put there.
func (c *Controller) othersIngress(svc *corev1.Service) []corev1.LoadBalancerIngress {
	others := c.othersAddrs()
	var kept []corev1.LoadBalancerIngress
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil && others[a.Unmap()] {
			kept = append(kept, in)
		}
	}
	return kept
}

// othersAddrs are the addresses of the other nodes, but for those that are this one's.
func (c *Controller) othersAddrs() map[netip.Addr]bool {
	nodes, _ := c.nodes.List(labels.Everything()) // a lister does not fail
	others := map[netip.Addr]bool{}
	for _, n := range nodes {
		if n.Name == c.node {
			continue
		}
		for _, at := range n.Status.Addresses {
			if a, err := netip.ParseAddr(at.Address); err == nil && !slices.Contains(*c.addrs.Load(), a.Unmap()) {
				others[a.Unmap()] = true
			}
		}
	}
	return others
}

func keyOf(svc *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
}

// look reads the node's sockets when the first question comes, and answers all of one decision from that.
type look struct {
	done    bool
	sockets []socket
	err     error
}

func (l *look) listener(addr netip.Addr, port PortKey) string {
	if !l.done {
		l.done = true
		l.sockets, l.err = sockets(threadNet)
	}
	for _, s := range l.sockets {
		if s.takes(addr, port) {
			return processOf(procRoot, s.inode)
		}
	}
	return ""
}

const (
	procRoot  = "/proc"
	threadNet = "/proc/thread-self/net" // a goroutine that entered another namespace keeps its thread to itself
)
