package binder

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Place chooses the node for pod: of those it fits on the one with the fewest pods, then the first by name. When it
// fits nowhere, node is empty and why says so in kube-scheduler's words, for the condition and the Event.
func Place(pod *Pod, c *Cluster) (node, why string) {
	var fitting []*Node
	against, total := map[string]int{}, 0
	for _, n := range c.nodes {
		if n.Node == nil {
			continue
		}
		total++
		reasons := Fit(pod, n, c)
		if len(reasons) == 0 {
			fitting = append(fitting, n)
		}
		for _, r := range reasons {
			against[r]++
		}
	}
	if total == 0 {
		return "", "no nodes available to schedule pods"
	}
	if volumes := c.claimTrouble(pod); volumes != "" {
		return "", fmt.Sprintf("0/%d nodes are available: %s.", total, volumes)
	}
	if len(fitting) == 0 {
		return "", fmt.Sprintf("0/%d nodes are available: %s.", total, histogram(against))
	}
	best := slices.MinFunc(fitting, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(len(a.pods), len(b.pods)), strings.Compare(a.Name, b.Name))
	})
	return best.Name, ""
}

func histogram(against map[string]int) string {
	lines := make([]string, 0, len(against))
	for reason, n := range against {
		lines = append(lines, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}
