// Package address decides by which addresses the node is known, one of each family, and calls its followers when that changes: a
// lease gives another one, a cable is pulled, a laptop leaves the Wi-Fi. No other package asks the machine for its addresses:
// the parts of the server get them when they are made, and follow their changes.
//
//	netlink: addresses, links, ──▶ Read ──▶ Decide (pure) ──▶ Source ──▶ followers, each by itself, again until it works:
//	default routes; every 5 s               stay, move,         │         pods' routes, data planes, certificates, Node,
//	                                        or the spare one    │         default/kubernetes, NodePorts, DNS, load balancers
//	                                                            └──▶ link sp-node with the spare address, while it is needed
//
// Invariants:
//   - The node stays with an address as long as the machine has it on a link that is up, whatever else comes.
//   - A node without an address goes by a spare one that never leaves it, the first of its pod range, so that pods and Services
//     of the node keep reaching one another. An address that was asked for (--node-ip) is never replaced by another of the machine.
//   - A short gap moves nothing. When the address is back, followers put back what the kernel removed with it.
package address
