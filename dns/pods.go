package dns

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
)

// byAddr and byNamespace are indexes of pods: "namespace/address", and "namespace" for those with an address.
const (
	byAddr      = "svcplane.pod-address"
	byNamespace = "svcplane.pod-namespace"
)

// PodIndex verifies pod names against the pods of the API. Pods that have ended have no name.
type PodIndex struct {
	pods toolscache.SharedIndexInformer
}

// NewPodIndex adds the indexes that it needs to an informer of pods, which must not have been started yet.
func NewPodIndex(pods toolscache.SharedIndexInformer) (*PodIndex, error) {
	indexers := toolscache.Indexers{
		byAddr: func(o any) ([]string, error) {
			return podKeys(o, func(ns, ip string) string { return ns + "/" + ip }), nil
		},
		byNamespace: func(o any) ([]string, error) { return podKeys(o, func(ns, _ string) string { return ns }), nil },
	}
	if err := pods.AddIndexers(indexers); err != nil {
		return nil, fmt.Errorf("dns: indexing pods by address: %w", err)
	}
	return &PodIndex{pods: pods}, nil
}

func podKeys(o any, key func(namespace, ip string) string) []string {
	pod, ok := o.(*corev1.Pod)
	if !ok || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
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
func (p *PodIndex) HasSynced() bool { return p.pods.HasSynced() }

func (p *PodIndex) any(index, key string) bool {
	keys, err := p.pods.GetIndexer().IndexKeys(index, key)
	return err == nil && len(keys) > 0
}
