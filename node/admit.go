package node

import (
	corev1 "k8s.io/api/core/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	podplan "svcplane/node/pod"
)

// portConflict words it as the kubelet does; controllers and people know the reason.
const (
	reasonNodePorts = "NodePorts"
	portConflict    = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
)

// refusal says why a pod may not run here at all: it asks for a restriction that this node cannot put in force. Reasons and
// messages are the kubelet's.
func (n *Node) refusal(pod *corev1.Pod) *podplan.Why {
	if os := pod.Spec.OS; os != nil && os.Name != corev1.Linux {
		return &podplan.Why{Reason: "PodOSNotSupported", Message: "Failed to admit pod as the OS field doesn't match node OS: this node runs Linux"}
	}
	sc := pod.Spec.SecurityContext
	if sc != nil && sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict && !n.strictGroups {
		return &podplan.Why{Reason: "SupplementalGroupsPolicyNotSupported", Message: "SupplementalGroupsPolicy=Strict is not supported in this node"}
	}
	if err := n.sysctls.check(pod); err != nil {
		return &podplan.Why{Reason: "SysctlForbidden", Message: "forbidden sysctl: " + err.Error()}
	}
	confined := sc != nil && wantsAppArmor(sc.AppArmorProfile)
	podutil.VisitContainers(&pod.Spec, podutil.AllContainers, func(c *corev1.Container, _ podutil.ContainerType) bool {
		confined = confined || c.SecurityContext != nil && wantsAppArmor(c.SecurityContext.AppArmorProfile)
		return true
	})
	if confined {
		return &podplan.Why{Reason: "AppArmor", Message: "Cannot enforce AppArmor: this node applies no profiles; leave appArmorProfile out"}
	}
	return nil
}

func wantsAppArmor(p *corev1.AppArmorProfile) bool {
	return p != nil && p.Type != corev1.AppArmorProfileTypeUnconfined
}

// admit looks at a pod for the ports of the node that it asks for. The binder places pods where they fit; one that names
// its node itself (spec.nodeName) comes past it, and is failed, for its controller to replace it. So is one that runs
// since a time when svcplane did not listen there: it would wait for ever for what does not come.
func (w *worker) admit(st *podplan.State) {
	if w.pod.DeletionTimestamp != nil || w.failed != nil || isFinal(w.status.Phase) {
		return
	}
	for _, p := range hostPorts(w.pod) {
		if own, taken := w.n.cfg.Own.HostPort(p); taken {
			w.reject(portConflict+" ("+own.Refusal()+")", own.Refusal())
			return
		}
	}
	if w.status.StartTime != nil || len(st.Sandboxes) > 0 {
		return
	}
	if w.refusePressed() {
		return
	}
	if w.failed = w.n.refusal(w.pod); w.failed != nil {
		w.n.cfg.Recorder.Event(podRef(w.pod), corev1.EventTypeWarning, w.failed.Reason, w.failed.Message)
		return
	}
	for _, o := range w.n.pods.GetStore().List() {
		other := o.(*corev1.Pod)
		if other.UID == w.pod.UID || !w.n.ours(other) || isFinal(other.Status.Phase) || !before(other, w.pod) {
			continue
		}
		if portsClash(other, w.pod) {
			w.reject(portConflict, "pod "+podText(other)+" has a host port of this one")
			return
		}
	}
}

func (w *worker) reject(message, because string) {
	w.failed = &podplan.Why{Reason: reasonNodePorts, Message: message}
	w.n.cfg.Recorder.Event(podRef(w.pod), corev1.EventTypeWarning, reasonNodePorts, "Predicate NodePorts failed: "+because)
}

// before says which of two pods was first here: the one that was started, or else the older one.
func before(a, b *corev1.Pod) bool {
	switch {
	case (a.Status.StartTime != nil) != (b.Status.StartTime != nil):
		return a.Status.StartTime != nil
	case !a.CreationTimestamp.Equal(&b.CreationTimestamp):
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.UID < b.UID
}

func portsClash(a, b *corev1.Pod) bool {
	for _, x := range hostPorts(a) {
		for _, y := range hostPorts(b) {
			anyAddress := x.HostIP == "" || y.HostIP == "" || x.HostIP == "0.0.0.0" || y.HostIP == "0.0.0.0"
			if x.HostPort == y.HostPort && criProtocol(x.Protocol) == criProtocol(y.Protocol) && (anyAddress || x.HostIP == y.HostIP) {
				return true
			}
		}
	}
	return false
}

// hostPorts lists the ports of the node that a pod takes while it runs.
func hostPorts(pod *corev1.Pod) []corev1.ContainerPort {
	var list []corev1.ContainerPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				list = append(list, p)
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		if isSidecar(pod, pod.Spec.InitContainers[i].Name) {
			add(&pod.Spec.InitContainers[i])
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return list
}
