// Package scrape serves the process's metrics to Prometheus on ports of their own, over plain HTTP, where the programs have
// theirs whose work svcplane does: 10249 (kube-proxy), 9153 (CoreDNS), or wherever a flag says. Each port has all families, so a scrape job that was
// written for kube-proxy finds kube-proxy's families on its port.
//
//	--metrics-address ──▶ Server ──▶ GET /metrics     every family of the process
//	                                 GET /healthz     "ok", as kube-proxy's metrics port has it
//	                                 GET /proxyMode   "iptables" or "ebpf", the same
//
// Invariants:
//   - There is nothing else behind such a port: no profiles, no commands, nothing that changes anything.
//   - Whoever can reach the port can read it; the flag's default is no port at all.
package scrape
