// Package holder is the one process that outlives the server: it keeps the pods' namespaces open, serves all
// svcplane/echo containers, is the parent of all container processes and writes their logs. It is this same
// binary, executed again with a hidden first argument.
//
//	svcplane server ──Client── HTTP/JSON over <dir>/holder.sock ──▶ Holder ─┬─ namespaces of each sandbox
//	   (restarts)                                                           ├─ echo servers, in pods' namespaces
//	                                                                        ├─ init ─ processes (host, image)
//	                                                                        ├─ log files (CRI format)
//	                                                                        └─ attached clients (kubectl attach, run -i)
//
// Invariants:
//   - One holder per directory (a lock on <dir>/holder.lock); only root can reach its socket.
//   - It remembers how each container ended until it is told to forget it, so exit codes survive a restart
//     of the server.
//   - It decides nothing: what to run arrives complete, in a ContainerSpec.
package holder
