package binder

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/component-helpers/storage/ephemeral"
)

// Pod is a pod with what its placement depends on worked out once. It is immutable.
type Pod struct {
	*corev1.Pod
	requests     map[corev1.ResourceName]int64 // cpu in thousandths, the rest in units; no zeros
	ports        []hostPort
	nodes        nodeaffinity.RequiredNodeAffinity
	affinity     []term
	antiAffinity []term
	spread       []spread
	claims       []claimRef
}

// claimRef is a PersistentVolumeClaim of the pod's namespace that it uses.
type claimRef struct {
	name      string
	ephemeral bool // made for this very pod (KEP-1698)
}

// hostPort is a port that the pod takes on its node; addr "0.0.0.0" stands for all addresses.
type hostPort struct {
	addr     string
	protocol corev1.Protocol
	port     int32
}

// term is one required pod affinity or anti-affinity term: which pods, and the node label that says "near".
type term struct {
	namespaces        map[string]bool
	namespaceSelector labels.Selector
	pods              labels.Selector
	topologyKey       string
}

// spread is one topology spread constraint of whenUnsatisfiable DoNotSchedule.
type spread struct {
	corev1.TopologySpreadConstraint
	pods labels.Selector
}

// NewPod works out what the placement of p depends on. It keeps p and does not change it.
func NewPod(p *corev1.Pod) *Pod {
	pod := &Pod{Pod: p, requests: requests(p), ports: hostPorts(p), nodes: nodeaffinity.GetRequiredNodeAffinity(p)}
	if a := p.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			pod.affinity = terms(p, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		}
		if a.PodAntiAffinity != nil {
			pod.antiAffinity = terms(p, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		}
	}
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			pod.spread = append(pod.spread, spread{TopologySpreadConstraint: c, pods: selector(c.LabelSelector)})
		}
	}
	for _, v := range p.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			pod.claims = append(pod.claims, claimRef{name: v.PersistentVolumeClaim.ClaimName})
		case v.Ephemeral != nil:
			pod.claims = append(pod.claims, claimRef{name: ephemeral.VolumeClaimName(p, &v), ephemeral: true})
		}
	}
	return pod
}

func requests(p *corev1.Pod) map[corev1.ResourceName]int64 {
	amounts := map[corev1.ResourceName]int64{}
	for name, quantity := range resource.PodRequests(p, resource.PodResourcesOptions{}) {
		if n := amount(name, quantity); n > 0 {
			amounts[name] = n
		}
	}
	return amounts
}

func hostPorts(p *corev1.Pod) []hostPort {
	var ports []hostPort
	for _, c := range sidecarsAnd(p) {
		for _, cp := range c.Ports {
			if cp.HostPort == 0 {
				continue
			}
			hp := hostPort{addr: cp.HostIP, protocol: cp.Protocol, port: cp.HostPort}
			if hp.addr == "" || hp.addr == "::" {
				hp.addr = anyAddr
			}
			if hp.protocol == "" {
				hp.protocol = corev1.ProtocolTCP
			}
			ports = append(ports, hp)
		}
	}
	return ports
}

// sidecarsAnd lists the containers that run as long as the pod does: those that can hold a port (KEP-753).
func sidecarsAnd(p *corev1.Pod) []corev1.Container {
	all := append([]corev1.Container(nil), p.Spec.Containers...)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			all = append(all, c)
		}
	}
	return all
}

const anyAddr = "0.0.0.0"

func (a hostPort) clashes(b hostPort) bool {
	return a.port == b.port && a.protocol == b.protocol && (a.addr == b.addr || a.addr == anyAddr || b.addr == anyAddr)
}

func terms(p *corev1.Pod, required []corev1.PodAffinityTerm) []term {
	out := make([]term, 0, len(required))
	for _, t := range required {
		made := term{
			namespaces:        map[string]bool{},
			namespaceSelector: selector(t.NamespaceSelector),
			pods:              selector(t.LabelSelector),
			topologyKey:       t.TopologyKey,
		}
		for _, ns := range t.Namespaces {
			made.namespaces[ns] = true
		}
		if len(t.Namespaces) == 0 && t.NamespaceSelector == nil {
			made.namespaces[p.Namespace] = true
		}
		out = append(out, made)
	}
	return out
}

// selector makes one that matches nothing of nil, and of what the API server would have refused.
func selector(s *metav1.LabelSelector) labels.Selector {
	made, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return made
}

// matches says whether t is about other; nsLabels gives the labels of a namespace.
func (t *term) matches(other *corev1.Pod, nsLabels func(string) labels.Set) bool {
	// a nil namespaceSelector became one that matches nothing, an empty one matches every namespace
	if !t.namespaces[other.Namespace] && !t.namespaceSelector.Matches(nsLabels(other.Namespace)) {
		return false
	}
	return t.pods.Matches(labels.Set(other.Labels))
}

func matchesAll(ts []term, other *corev1.Pod, nsLabels func(string) labels.Set) bool {
	for i := range ts {
		if !ts[i].matches(other, nsLabels) {
			return false
		}
	}
	return true
}
