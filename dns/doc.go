// Package dns answers for the names of the cluster (Kubernetes DNS specification 1.1.0) on an address that is
// local to the node, and forwards every other name. Answers for Services are built once per change, in wire
// form; a question is answered by copying bytes and patching id, flags and case.
//
//	catalog ──dirty keys──▶ Server.follow ──buildEntry──▶ zone (one immutable entry per Service)
//	                                                        │
//	pod ──UDP, TCP──▶ sockets ──question.parse──▶ zone.find ─┴─ ours ──▶ reply ──▶ pod
//	LAN ──▶ standingOf ──▶ lanZone                    │  └─ no such name ──▶ replySearched (the pod's search path)
//	                                                  └─ not ours ──▶ cache ──▶ forwarder ──▶ upstreams
//
// Invariants:
//   - An entry is never changed: the answers of one Service change together, and one change costs the same
//     however many Services there are.
//   - Before the first sync a question for our zones waits, then gets SERVFAIL, and never NXDOMAIN.
//   - Negative answers for our zones carry a TTL of 0: nobody caches the absence of a Service.
//   - The zone is asked before the cache: what an upstream said never hides a name of ours.
//   - A complete name of our zones is never asked for upstream, wherever in a resolver's search path it comes up.
//   - While no upstream answers, questions for them fail at once; probes find out when one answers again.
//   - What upstreams answer is believed only when address, id and question are those that were asked.
//   - UDP answers to clients outside the node are rate-limited, so that the server is no amplifier. These clients get only the
//     names of the LAN unless the configuration says otherwise.
//   - Each worker has its own counters, which are added up when the metrics are read.
package dns
