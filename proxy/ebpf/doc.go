// Package ebpf is the data plane that exchanges the address a program dials for an endpoint's when it calls
// connect or sendmsg, so that a Service costs nothing per packet for what runs on the node. Packets of clients
// that no hooked socket belongs to (the LAN, guests, pods of other nodes) are translated where they enter and
// leave, with a connection table of their own.
//
//	process ─ connect() ─▶ socket.h ──▶ endpoint's address, kept in map peers for getpeername and recvmsg
//	                          │
//	                          ▼ frontends ─▶ slots (endpoints, one by schedule.h), ranges, members, stickies
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
//   - A connection is drawn for once: packets, and datagrams of one socket, follow what its socket drew (map draws).
//   - What programs note besides (tallies, turns, loads) is not of the Table: it comes with traffic, and tidy removes
//     what is of nobody any more.
//   - Programs are attached to the cgroup and to devices themselves, and hold their maps: they work on while no process
//     runs, and nothing else has to last. Where the kernel has no tcx, they are filters of a qdisc (clsact.go).
//   - What is there is found by asking the kernel for its programs, by their names and the network namespace in their maps:
//     a start adopts those maps, Dump reads them, Close and Cleanup remove all. A start that finds programs which it cannot
//     replace fails, so that iptables serves.
package ebpf
