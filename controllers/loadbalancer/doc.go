// Package loadbalancer gives Services of type LoadBalancer the addresses of the node. The node's addresses are shared
// by all of them, port by port: Decide is pure and says which Service gets what, and why not; Controller watches the
// API, looks at the node's sockets and writes status.loadBalancer and Events.
//
//	Service ──watch──▶ queue ──▶ Decide(Service, its rivals, Node) ──▶ status.loadBalancer, Event
//	           │         ▲               ▲
//	           └─ rivals ┘               └── own listeners, /proc/net/{tcp,tcp6,udp,udp6}
//	             (same port)
//
// Invariants:
//   - One port and protocol of one address belongs to one Service; the older one wins, whatever the order of events.
//   - A port of svcplane's own and a node port come before every load-balancer port; so does an external address of an
//     older Service.
//   - A local process comes before a Service only if it listened first: what a Service holds it keeps.
//   - A Service that gets no address says so in one Event that names who has the port and how to mend it.
//   - What another node has put into a status, an address of its own, stays there: only this node's are written and removed.
//   - The cost of one change depends on the Services that share a port with it, not on all of them.
//   - Sockets are looked at again only while a Service waits for one of them to close: nothing announces that.
package loadbalancer
