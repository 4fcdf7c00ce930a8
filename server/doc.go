// Package server is the server process: a control plane, which keeps the objects of the API and has the controllers, and a node,
// which runs pods and carries Services out. Both are built of the other packages here, started one part after the other and ended
// in reverse. What the node has of the control plane is one small value, Access: a node of another machine would be the same Node
// with an Access that goes over the network.
//
//	Config ─Complete(Host)─▶ reserve: data directory, ports, tools        (until here nothing is changed)
//	                            │
//	   ControlPlane ────────────┴─────── Access ──────▶ Node
//	   store ▸ disk ▸ api ▸ controllers                 catalog ▸ runtime ▸ node ▸ proxy ▸ dns ▸ ingress ▸ metrics
//	      └──────────────── parts: each starts when the one before serves ────────────────┘─▶ "svcplane ready in N ms"
//	                                        │
//	   commands ◀── admin: unix socket (0600) ── status, proxy, dns, ingress, names
//
// Invariants:
//   - A start that fails before it has reserved what it needs leaves the machine as it was, and says in one line
//     what, where and how to mend.
//   - Stopping changes nothing in the kernel: Services answer and pods run while no server does. Only CleanUp removes them.
//   - A Node gets nothing of the control plane but its Access.
//   - One server per process: upstream keeps schemes, feature gates and metrics in package variables.
package server
