package proxy

import (
	"slices"

	"svcplane/catalog"
)

// categories are the endpoints of one port and address family as seen from a node.
type categories struct {
	cluster []Endpoint // for traffic policy Cluster
	local   []Endpoint // for traffic policy Local
	any     bool       // there is a usable endpoint on some node
}

// categorize picks the ready endpoints; where there are none, those that still serve while they terminate
// (KEP-1669). Topology hints narrow the cluster-wide choice only, and only when every ready endpoint has them.
func categorize(endpoints []catalog.Endpoint, ipv4 bool, node Node) categories {
	var ready, leaving []catalog.Endpoint
	for _, e := range endpoints {
		switch {
		case e.Addr().Is4() != ipv4:
		case e.Ready:
			ready = append(ready, e)
		case e.Serving && e.Terminating:
			leaving = append(leaving, e)
		}
	}
	isLocal := func(e catalog.Endpoint) bool { return e.Node != "" && e.Node == node.Name }
	c := categories{any: len(ready)+len(leaving) > 0}
	if len(ready) > 0 {
		c.cluster = addresses(ready, catalog.Nearest(ready, node.Name, node.Zone))
	} else {
		c.cluster = addresses(leaving, everyone)
	}
	if c.local = addresses(ready, isLocal); len(c.local) == 0 {
		c.local = addresses(leaving, isLocal)
	}
	return c
}

func everyone(catalog.Endpoint) bool { return true }

func addresses(endpoints []catalog.Endpoint, keep func(catalog.Endpoint) bool) []Endpoint {
	var kept []Endpoint
	for _, e := range endpoints {
		if keep(e) {
			kept = append(kept, Endpoint{e.AddrPort})
		}
	}
	slices.SortFunc(kept, func(a, b Endpoint) int { return a.Compare(b.AddrPort) })
	return slices.Compact(kept)
}
