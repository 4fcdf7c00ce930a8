package server

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"svcplane/diagnose"
	"svcplane/server/admin"
)

// hints looks in the API for what people may have meant, and for what is wrong with a Service.
type hints struct {
	client kubernetes.Interface
	domain string // of the cluster
}

// tryFor is how long a connection to a pod of this node may take before it counts as unanswered.
const tryFor = 500 * time.Millisecond

// mistakes looks for what is wrong with a Service, dialling its endpoints.
func (h hints) mistakes(ctx context.Context, key types.NamespacedName) ([]string, error) {
	service, err := h.client.CoreV1().Services(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil // it went a moment ago
	} else if err != nil {
		return nil, fmt.Errorf("looking at service %s: %w", key, err)
	}
	pods, err := h.client.CoreV1().Pods(key.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("looking for the pods of service %s: %w", key, err)
	}
	e := diagnose.Evidence{Service: service}
	for i := range pods.Items {
		e.Pods = append(e.Pods, &pods.Items[i])
	}
	if e.Probes, err = h.failedProbes(ctx, key.Namespace); err != nil {
		return nil, err
	}
	e.Tried = try(ctx, e.ToTry())
	return e.Mistakes(), nil
}

// failedProbes is what the probes of a namespace's pods said last, from the Events that the node writes.
func (h hints) failedProbes(ctx context.Context, namespace string) (map[types.UID]string, error) {
	events, err := h.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"reason": "Unhealthy", "involvedObject.kind": "Pod"}.String(),
	})
	if err != nil {
		return nil, fmt.Errorf("reading what probes said: %w", err)
	}
	slices.SortFunc(events.Items, func(a, b corev1.Event) int { return cmp.Compare(lastSeen(a).UnixNano(), lastSeen(b).UnixNano()) })
	said := map[types.UID]string{}
	for _, e := range events.Items {
		said[e.InvolvedObject.UID] = fmt.Sprintf("%s (%s ago)", strings.TrimSpace(e.Message), time.Since(lastSeen(e)).Round(time.Second))
	}
	return said, nil
}

func lastSeen(e corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	}
	return e.EventTime.Time
}

// try makes one TCP connection to each address.
func try(ctx context.Context, addrs []netip.AddrPort) map[netip.AddrPort]error {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	tried := map[netip.AddrPort]error{}
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, at := range addrs {
		running.Go(func() {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", at.String())
			if err == nil {
				err = conn.Close()
			}
			mu.Lock()
			tried[at] = err
			mu.Unlock()
		})
	}
	running.Wait()
	return tried
}

// noAddress says why the proxy has no address of a Service.
func (h hints) noAddress(ctx context.Context, key types.NamespacedName) error {
	service, err := h.client.CoreV1().Services(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("service %s does not exist%s", key, h.otherKey(ctx, key))
	case err != nil:
		return fmt.Errorf("looking for service %s: %w", key, err)
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		return fmt.Errorf("service %s is of type ExternalName: its name is an alias for %s in DNS, and the proxy has no part in it", key, service.Spec.ExternalName)
	case service.Spec.ClusterIP == corev1.ClusterIPNone:
		return fmt.Errorf("service %s is headless: its name leads straight to the pods, see svcplane dns query %s.%s.svc.%s", key, key.Name, key.Namespace, h.domain)
	case len(service.Spec.Ports) == 0:
		return fmt.Errorf("service %s has no ports", key)
	case service.Labels["service.kubernetes.io/service-proxy-name"] != "":
		return fmt.Errorf("service %s has the label service.kubernetes.io/service-proxy-name: it is left to that proxy", key)
	}
	return fmt.Errorf("service %s has not reached the proxy yet: see svcplane status", key)
}

// otherKey says which Service may have been meant by one that does not exist; empty, or ": " and sentences.
func (h hints) otherKey(ctx context.Context, key types.NamespacedName) string {
	hints := diagnose.Key(key, h.services(ctx))
	if len(hints) == 0 {
		return h.otherNamespace(ctx, key.Namespace)
	}
	return ": " + strings.Join(hints, "; ")
}

// otherNamespace says that a namespace does not exist, and which may have been meant; empty if it exists.
func (h hints) otherNamespace(ctx context.Context, name string) string {
	names, err := h.names(ctx, admin.NamesOfNamespaces, "")
	if err != nil || slices.Contains(names, name) {
		return ""
	}
	return fmt.Sprintf(": namespace %s does not exist%s", name, diagnose.Hint(name, names))
}

// nameHints explains a DNS name that does not exist; a failure to look leaves the answer without hints.
func (h hints) nameHints(ctx context.Context, name, namespace string) []string {
	return diagnose.Name(name, namespace, h.domain, h.services(ctx))
}

// services are the keys of all Services, of which a hint may name one; none if they cannot be read.
func (h hints) services(ctx context.Context) []types.NamespacedName {
	list, err := h.client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	var keys []types.NamespacedName
	for _, s := range list.Items {
		keys = append(keys, types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	}
	return keys
}

// podToAskFrom finds a pod and its addresses, the first of which is that of status.podIP.
func (h hints) podToAskFrom(ctx context.Context, namespace, name string) (*corev1.Pod, []netip.Addr, error) {
	p, err := h.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("pod to ask from: pod %s/%s does not exist%s", namespace, name, h.otherPod(ctx, namespace, name))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("pod to ask from: %w", err)
	}
	var addrs []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return nil, nil, fmt.Errorf("pod %s/%s has no address to ask from yet: wait until it runs", p.Namespace, p.Name)
	}
	return p, addrs, nil
}

// otherPod says which pod of a namespace may have been meant, or that there is no such namespace.
func (h hints) otherPod(ctx context.Context, namespace, name string) string {
	names, _ := h.names(ctx, admin.NamesOfPods, namespace) // without them there is no hint
	return cmp.Or(diagnose.Hint(name, names), h.otherNamespace(ctx, namespace))
}

// otherHost says which host of an Ingress may have been meant; empty if that host is named, or nothing is near.
func (h hints) otherHost(ctx context.Context, host string) string {
	hosts, _ := h.names(ctx, admin.NamesOfHosts, "") // without them there is no hint
	if slices.Contains(hosts, host) {
		return ""
	}
	return strings.TrimPrefix(diagnose.Hint(host, hosts), ": ")
}
