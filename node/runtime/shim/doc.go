// Package shim is the one process that outlives the server, as containerd has one for each pod: it keeps the pods'
// namespaces open, serves all svcplane/echo containers, is the parent of all container processes and writes their logs.
// It is this same binary, executed again with a hidden first argument.
//
//	svcplane server ──Client── HTTP/JSON over <dir>/holder.sock ──▶ shim ─┬─ namespaces of each sandbox
//	   (restarts)                                                         ├─ echo servers, in pods' namespaces
//	                                                                      ├─ init ─ process (host), process (image)
//	                                                                      ├─ log files (CRI format)
//	                                                                      └─ attached clients (kubectl attach, run -i)
//
// Invariants:
//   - One shim per directory (a lock on <dir>/holder.lock); only root can reach its socket.
//   - It remembers how each container ended until the server has it removed, so exit codes survive a restart of the server.
//   - A server and a shim of different releases understand each other: names of files and JSON keys do not change, hence
//     "holder", which the shim was called before; what is added may be missing.
//   - It decides nothing: what to run arrives complete, in a ContainerSpec.
package shim
