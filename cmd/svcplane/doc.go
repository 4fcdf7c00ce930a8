// Command svcplane is Kubernetes' Services stack in one process. This package reads flags and the config file, calls the server
// or asks a running one, and prints what comes back; package server does the rest.
//
//	flags, --config ─▶ Options ─check─▶ server.Config ─▶ server.Process.Run     svcplane server
//	                                                            ▲
//	status, proxy, dns, ingress ──── admin: unix socket (0600) ─┘
//	    └─▶ printer: table, JSON, YAML; run ─▶ exit code (exit.go)
//
// Invariants:
//   - A wrong flag stops a start in one line that says what, where and how to mend, before anything on the machine is changed.
//   - Every command but kubectl ends with 0, 1 or 2, as docs/commands.md says.
//   - The same binary, executed again with a hidden first argument, has the pods' namespaces and processes (node/runtime).
package main
