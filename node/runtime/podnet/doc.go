// Package podnet is the network that the pods of one node share, whoever runs their containers: addresses, links, host ports,
// masquerading, and the end of connections with the pods that had them. The parts that touch the kernel are package sandbox's.
//
//	Take ─▶ addresses ─▶ Add ─▶ Attach ─▶ ... ─▶ Detach ─▶ Release
//	                      │       │ veth, routes   │
//	                      ▼       ▼                ▼
//	                 host ports ─▶ one nftables table of all pods; flows that lead elsewhere end
//
// Invariants:
//   - What is kept on the disk is where the next address is looked for, and how the machine forwarded before the first start. Who has
//     which address is recorded by who runs the pods, before Attach, and told by Adopt after a restart: all of it, before anything is detached.
//   - A pod counts, with its host ports, from Add until Detach; its address and its ports are nobody else's until Release.
//   - Every method may be repeated.
package podnet
