package binder

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// The reasons why a pod does not fit on a node, worded as kube-scheduler words them: people search for them.
const (
	reasonUnschedulable   = "node(s) were unschedulable"
	reasonTaint           = "node(s) had untolerated taint(s)"
	reasonAffinity        = "node(s) didn't match Pod's node affinity/selector"
	reasonPorts           = "node(s) didn't have free ports for the requested pod ports"
	reasonTooMany         = "Too many pods"
	reasonInsufficient    = "Insufficient " // and the name of the resource
	reasonOncePod         = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
	reasonVolumeElsewhere = "node(s) didn't match PersistentVolume's node affinity"
	reasonVolumeGone      = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
	reasonNoVolume        = "node(s) didn't find available persistent volumes to bind"
	reasonSpread          = "node(s) didn't match pod topology spread constraints"
	reasonSpreadLabel     = reasonSpread + " (missing required label)"
	reasonPodAffinity     = "node(s) didn't match pod affinity rules"
	reasonPodAntiAffinity = "node(s) didn't match pod anti-affinity rules"
	reasonOthersAvoid     = "node(s) didn't satisfy existing pods anti-affinity rules"
)

// filter gives the reasons against pod on node, none when it has no objection.
type filter func(pod *Pod, node *Node, c *Cluster) []string

// filters are in kube-scheduler's order, which decides the reason that is told. It is a function and not a variable so
// that nothing can change it.
func filters() []filter {
	return []filter{fitSchedulable, fitTaints, fitNodeAffinity, fitPorts, fitResources, fitOncePod, fitVolumes, fitSpread, fitPodAffinity}
}

// Fit tells why pod cannot run on node: the reasons of the first filter that objects, nil when it fits.
func Fit(pod *Pod, node *Node, c *Cluster) []string {
	for _, f := range filters() {
		if reasons := f(pod, node, c); len(reasons) > 0 {
			return reasons
		}
	}
	return nil
}

func fitSchedulable(pod *Pod, node *Node, _ *Cluster) []string {
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if node.Spec.Unschedulable && !tolerates(pod, &cordon) {
		return []string{reasonUnschedulable}
	}
	return nil
}

func fitTaints(pod *Pod, node *Node, _ *Cluster) []string {
	for i := range node.Spec.Taints {
		t := &node.Spec.Taints[i]
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(pod, t) {
			return []string{reasonTaint}
		}
	}
	return nil
}

func tolerates(pod *Pod, t *corev1.Taint) bool {
	return schedulinghelpers.TolerationsTolerateTaint(klog.Background(), pod.Spec.Tolerations, t, true)
}

func fitNodeAffinity(pod *Pod, node *Node, _ *Cluster) []string {
	if ok, err := pod.nodes.Match(node.Node); !ok || err != nil {
		return []string{reasonAffinity}
	}
	return nil
}

func fitPorts(pod *Pod, node *Node, c *Cluster) []string {
	if len(pod.ports) == 0 {
		return nil
	}
	for _, p := range pod.ports {
		if own, taken := c.own[node.Name].HostPort(corev1.ContainerPort{HostIP: p.addr, HostPort: p.port, Protocol: p.protocol}); taken {
			return []string{reasonPorts + " (" + own.Refusal() + ")"}
		}
	}
	for _, other := range node.pods {
		for _, theirs := range other.ports {
			if slices.ContainsFunc(pod.ports, theirs.clashes) {
				return []string{reasonPorts}
			}
		}
	}
	return nil
}

func fitResources(pod *Pod, node *Node, _ *Cluster) []string {
	var reasons []string
	if int64(len(node.pods))+1 > amount(corev1.ResourcePods, node.Status.Allocatable[corev1.ResourcePods]) {
		reasons = append(reasons, reasonTooMany)
	}
	for name, wanted := range pod.requests {
		if wanted > node.free(name) {
			reasons = append(reasons, reasonInsufficient+string(name))
		}
	}
	slices.Sort(reasons)
	return reasons
}
