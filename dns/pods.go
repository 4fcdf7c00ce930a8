package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
)

// byAddr and byNamespace are indexes of pods: "namespace/address", and "namespace" for those with an address.
const (
	byAddr      = "svcplane.pod-address"
	byNamespace = "svcplane.pod-namespace"
)

// AutopathAnnotation on a namespace, with the value "disabled", leaves the search path to the resolvers of its pods.
const AutopathAnnotation = "svcplane.io/dns-autopath"

// PodIndex verifies pod names against the pods of the API, and knows which namespace an address asks from. Pods that
// have ended have no name.
type PodIndex struct {
	pods       toolscache.SharedIndexInformer
	namespaces toolscache.SharedIndexInformer

	mu        sync.RWMutex
	searching map[netip.Addr]searcher
}

// searcher is a pod whose resolver walks the usual search path.
type searcher struct {
	uid       types.UID
	namespace string
}

// NewPodIndex adds the indexes and handlers that it needs to informers of pods and namespaces; the one of pods must
// not have been started yet.
func NewPodIndex(pods, namespaces toolscache.SharedIndexInformer) (*PodIndex, error) {
	indexers := toolscache.Indexers{
		byAddr: func(o any) ([]string, error) {
			return podKeys(o, func(ns, ip string) string { return ns + "/" + ip }), nil
		},
		byNamespace: func(o any) ([]string, error) { return podKeys(o, func(ns, _ string) string { return ns }), nil },
	}
	if err := pods.AddIndexers(indexers); err != nil {
		return nil, fmt.Errorf("dns: indexing pods by address: %w", err)
	}
	p := &PodIndex{pods: pods, namespaces: namespaces, searching: map[netip.Addr]searcher{}}
	_, err := pods.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { p.follow(nil, o) },
		UpdateFunc: p.follow,
		DeleteFunc: func(o any) {
			if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			p.follow(o, nil)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("dns: watching pods: %w", err)
	}
	return p, nil
}

// follow keeps the searching pods. An address may already be another pod's when its former owner goes.
func (p *PodIndex) follow(old, now any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pod, ok := old.(*corev1.Pod); ok {
		for _, addr := range searchingAddrs(pod) {
			if p.searching[addr].uid == pod.UID {
				delete(p.searching, addr)
			}
		}
	}
	if pod, ok := now.(*corev1.Pod); ok {
		for _, addr := range searchingAddrs(pod) {
			p.searching[addr] = searcher{pod.UID, strings.ToLower(pod.Namespace)}
		}
	}
}

// searchingAddrs are the addresses of a pod whose resolv.conf begins with the cluster's search path and has nothing
// of the pod's own behind it.
func searchingAddrs(pod *corev1.Pod) []netip.Addr {
	if pod.Spec.HostNetwork || pod.Spec.DNSPolicy == corev1.DNSNone || pod.Spec.DNSPolicy == corev1.DNSDefault ||
		(pod.Spec.DNSConfig != nil && len(pod.Spec.DNSConfig.Searches) > 0) || ended(pod) {
		return nil
	}
	var addrs []netip.Addr
	for _, ip := range pod.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func podKeys(o any, key func(namespace, ip string) string) []string {
	pod, ok := o.(*corev1.Pod)
	if !ok || ended(pod) {
		return nil
	}
	var keys []string
	for _, ip := range pod.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			keys = append(keys, key(pod.Namespace, addr.Unmap().String()))
		}
	}
	return keys
}

// HasPod implements Pods.
func (p *PodIndex) HasPod(namespace string, addr netip.Addr) bool {
	return p.any(byAddr, namespace+"/"+addr.String())
}

// HasNamespace implements Pods.
func (p *PodIndex) HasNamespace(namespace string) bool { return p.any(byNamespace, namespace) }

// HasSynced implements Pods.
func (p *PodIndex) HasSynced() bool { return p.pods.HasSynced() && p.namespaces.HasSynced() }

// Searching implements Pods. It does not allocate.
func (p *PodIndex) Searching(addr netip.Addr) (namespace string, ok bool) {
	p.mu.RLock()
	pod, ok := p.searching[addr]
	p.mu.RUnlock()
	if !ok {
		return "", false
	}
	o, known, err := p.namespaces.GetStore().GetByKey(pod.namespace)
	if err != nil || !known {
		return pod.namespace, true
	}
	ns, isNamespace := o.(*corev1.Namespace)
	return pod.namespace, !isNamespace || ns.Annotations[AutopathAnnotation] != "disabled"
}

func (p *PodIndex) any(index, key string) bool {
	keys, err := p.pods.GetIndexer().IndexKeys(index, key)
	return err == nil && len(keys) > 0
}
