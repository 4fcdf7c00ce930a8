package binder

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// fitPodAffinity holds the required affinity and anti-affinity between pods, in both directions.
func fitPodAffinity(pod *Pod, node *Node, c *Cluster) []string {
	switch {
	case !c.affinityHolds(pod, node):
		return []string{reasonPodAffinity}
	case c.antiAffinityHurt(pod, node):
		return []string{reasonPodAntiAffinity}
	case c.othersAvoid(pod, node):
		return []string{reasonOthersAvoid}
	}
	return nil
}

// affinityHolds wants, for each term, a pod near node that matches all of pod's terms. The first pod of a group that
// wants to be together is let in: when nobody matches but the pod itself.
func (c *Cluster) affinityHolds(pod *Pod, node *Node) bool {
	if len(pod.affinity) == 0 {
		return true
	}
	near, exists := make([]bool, len(pod.affinity)), false
	c.eachPod(func(other *Pod, at *Node) {
		if !matchesAll(pod.affinity, other.Pod, c.NamespaceLabels) {
			return
		}
		for i, t := range pod.affinity {
			if _, ok := at.Labels[t.topologyKey]; ok {
				exists = true
				near[i] = near[i] || sameDomain(at, node, t.topologyKey)
			}
		}
	})
	for _, t := range pod.affinity {
		if _, ok := node.Labels[t.topologyKey]; !ok {
			return false
		}
	}
	if !exists {
		return matchesAll(pod.affinity, pod.Pod, c.NamespaceLabels)
	}
	for _, ok := range near {
		if !ok {
			return false
		}
	}
	return true
}

// antiAffinityHurt says whether a pod that this one refuses is near node.
func (c *Cluster) antiAffinityHurt(pod *Pod, node *Node) bool {
	if len(pod.antiAffinity) == 0 {
		return false
	}
	hurt := false
	c.eachPod(func(other *Pod, at *Node) {
		for i := range pod.antiAffinity {
			t := &pod.antiAffinity[i]
			hurt = hurt || sameDomain(at, node, t.topologyKey) && t.matches(other.Pod, c.NamespaceLabels)
		}
	})
	return hurt
}

// othersAvoid says whether a pod near node refuses this one.
func (c *Cluster) othersAvoid(pod *Pod, node *Node) bool {
	for _, at := range c.nodes {
		if at.antiAffine == 0 || at.Node == nil {
			continue
		}
		for _, other := range at.pods {
			for i := range other.antiAffinity {
				t := &other.antiAffinity[i]
				if sameDomain(at, node, t.topologyKey) && t.matches(pod.Pod, c.NamespaceLabels) {
					return true
				}
			}
		}
	}
	return false
}

func (c *Cluster) eachPod(visit func(*Pod, *Node)) {
	for _, n := range c.nodes {
		if n.Node == nil {
			continue
		}
		for _, p := range n.pods {
			visit(p, n)
		}
	}
}

func sameDomain(a, b *Node, key string) bool {
	va, ok := a.Labels[key]
	vb, also := b.Labels[key]
	return ok && also && va == vb
}

// fitSpread holds the topology spread constraints of whenUnsatisfiable DoNotSchedule (KEP-895): in no domain may there
// be more than maxSkew matching pods above the emptiest eligible one.
func fitSpread(pod *Pod, node *Node, c *Cluster) []string {
	for i := range pod.spread {
		s := &pod.spread[i]
		domain, ok := node.Labels[s.TopologyKey]
		if !ok {
			return []string{reasonSpreadLabel}
		}
		counts := c.countDomains(pod, s)
		self := 0
		if s.pods.Matches(labels.Set(pod.Labels)) {
			self = 1
		}
		if counts[domain]+self-emptiest(counts, s) > int(s.MaxSkew) {
			return []string{reasonSpread}
		}
	}
	return nil
}

// countDomains counts the matching pods in each domain that has a node which may count for pod.
func (c *Cluster) countDomains(pod *Pod, s *spread) map[string]int {
	counts := map[string]int{}
	for _, n := range c.nodes {
		if n.Node == nil || !s.eligible(pod, n) {
			continue
		}
		matching := 0
		for _, p := range n.pods {
			if p.Namespace == pod.Namespace && p.DeletionTimestamp == nil && s.pods.Matches(labels.Set(p.Labels)) {
				matching++
			}
		}
		counts[n.Labels[s.TopologyKey]] += matching
	}
	return counts
}

// eligible follows nodeAffinityPolicy (default Honor) and nodeTaintsPolicy (default Ignore), KEP-3094. A node without
// the label of any constraint of the pod does not count.
func (s *spread) eligible(pod *Pod, n *Node) bool {
	for i := range pod.spread {
		if _, ok := n.Labels[pod.spread[i].TopologyKey]; !ok {
			return false
		}
	}
	if s.NodeAffinityPolicy == nil || *s.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor {
		if len(fitNodeAffinity(pod, n, nil)) > 0 {
			return false
		}
	}
	if s.NodeTaintsPolicy != nil && *s.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor {
		return len(fitTaints(pod, n, nil)) == 0
	}
	return true
}

// emptiest is the count of the emptiest domain; 0 while there are fewer domains than minDomains (KEP-3022).
func emptiest(counts map[string]int, s *spread) int {
	if s.MinDomains != nil && len(counts) < int(*s.MinDomains) {
		return 0
	}
	least, first := 0, true
	for _, n := range counts {
		if first || n < least {
			least, first = n, false
		}
	}
	return least
}
