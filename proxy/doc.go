// Package proxy turns Services into what a kernel has to do for them, and keeps a kernel doing it. Build is
// pure and takes every decision of policy; a Dataplane renders and decides nothing; Proxy is the loop
// between the catalog and the data plane.
//
//	catalog.Service ──Build──▶ []Frontend ──ledger──▶ Change ──Sync──▶ Dataplane (iptables, eBPF)
//	                                          │                            │
//	                                   Table (wanted) ◀──── compare ──── Dump (in force)
//	                                          │                            │
//	                                          └───── Resync on drift ──────┘
//	                                          └───── stale flows ──▶ conntrack
//
// Invariants:
//   - The kernel keeps what it has while the process starts, stops or is down; only Close removes it.
//   - Nothing is applied before the catalog has read the whole state: an absent Service then is a deleted one.
//   - The wanted Table is a function of the Services and the node alone, not of the order of changes.
//   - A Service that the kernel refuses is isolated and named in an Event; all others are applied.
//   - A key is reported done to the catalog only after the kernel has taken it.
package proxy
