package catalog

import "slices"

// Nearest says which of the ready endpoints of a port a node in a zone sends to by their topology hints (KEP-2433,
// KEP-4444): those for the node, else those for its zone, else all. Hints count only when every ready endpoint has them.
// An empty zone is unknown.
func Nearest(ready []Endpoint, node, zone string) func(Endpoint) bool {
	forNode := func(e Endpoint) bool { return slices.Contains(e.ForNodes, node) }
	forZone := func(e Endpoint) bool { return slices.Contains(e.ForZones, zone) }
	allNode, allZone := true, true
	for _, e := range ready {
		allNode = allNode && len(e.ForNodes) > 0
		allZone = allZone && len(e.ForZones) > 0
	}
	switch {
	case allNode && slices.ContainsFunc(ready, forNode):
		return forNode
	case allZone && zone != "" && slices.ContainsFunc(ready, forZone):
		return forZone
	}
	return func(Endpoint) bool { return true }
}
