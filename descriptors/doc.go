// Package descriptors shares out what this process may open. The kernel's limit (RLIMIT_NOFILE) counts every file, socket
// and connection together, and whoever comes first gets them: 1,500 idle clients of the ingress, and the API cannot accept
// any more. So each part has its share, decided once at the start and in this one place, and keeps to it.
//
//	RLIMIT_NOFILE ─▶ Share ─┬─ Plane    store, log files, listeners, what runs for pods     never shared
//	                        ├─ API      connections of clients ─▶ Limit(listener)          others wait in the backlog
//	                        ├─ DNS      TCP clients, questions to upstreams                others wait
//	                        └─ Ingress  clients, connections to endpoints                  others are answered 503
//
// Invariants:
//   - The shares together are not more than the limit.
//   - Clients elsewhere cannot take all of the API's: some are left for this machine, from which it is mended.
package descriptors
