// Package ebpf is the data plane of eBPF programs. When a program of this node calls connect() or sendmsg(), it is given an
// endpoint's address instead of the Service's, so that a Service costs nothing per packet. Packets of other clients (the LAN,
// guests, pods of other nodes) are translated where they enter and leave the node, with a connection table of our own.
//
//	process ─ connect() ─▶ socket.h ──▶ endpoint's address, kept in socket_revnat for getpeername and recvmsg
//	                          │
//	                          ▼ frontends ─▶ endpoints (one by schedule.h), source_ranges, affinity, affinity_match
//	                          ▲
//	packet ─▶ tc ingress ── packet.h ─▶ destination ─▶ route, netfilter ─▶ tc egress ─▶ source
//	  │                       └── flows: four entries for a connection, flow.h
//	  └ before, where drivers can: xdp.h drops what packet.h would
//
//	Table ──entries.go──▶ contents of the maps ──kernel.go──▶ programs ──seats.go──▶ cgroup, devices
//	  ▲                                                          │
//	  └── Dump: the maps of what is attached ◀── inventory.go, survey.go
//
// Invariants:
//   - A set of endpoints or ranges is named by the hash of what it holds and never changes: a frontend moves
//     from one set to the next by one write, and no reader sees half of either.
//   - The maps are a function of the Table: order and history leave no trace, and ids survive a restart.
//   - Only sockets in network namespaces of this node are translated; several instances do not see each other.
//   - What needs the client's real address (source ranges), or has to replace it (masquerade), is done to packets.
//   - The endpoint of a connection is chosen once: its packets, and the datagrams of one socket, follow the choice that was made
//     for the socket (map socket_choices).
//   - What programs write themselves (counters, cursors, open connections) does not follow from the Table: it comes with
//     traffic, and tidy removes what belongs to endpoints and Services that are gone.
//   - Programs are attached to the cgroup and to devices themselves, and hold their maps: they work on while no process
//     runs, and nothing else has to last. Where the kernel has no tcx, they are filters of a qdisc (clsact.go).
//   - What is there is found by asking the kernel for its programs, by their names and the network namespace in their maps:
//     a start adopts those maps, or takes over from programs of the layout before (takeover.go), Dump reads them, Close and
//     Cleanup remove all. A start that finds programs which it cannot replace fails, so that iptables serves.
package ebpf
