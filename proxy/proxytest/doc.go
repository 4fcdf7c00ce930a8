// Package proxytest is the contract that every data plane passes: Services and endpoints are put into its
// kernel, and real sockets in network namespaces see who answers, from which address they are seen, and what
// is refused or dropped.
//
//	     client 192.0.2.2 ── eth0 ── node 192.0.2.1 ──┬── veth ── pod a 10.244.0.11
//	(also a server outside)          (this process)   ├── veth ── pod b 10.244.0.12
//	                                                  └── veth ── pod c 10.244.0.13, of another node
//
// Invariants:
//   - The test process itself moves into a namespace of its own (Main), so that the machine's rules, links
//     and sysctls are never touched and nothing can be left behind.
//   - Every pod answers with its name and the address it saw; an expectation names both.
//   - The list of scenarios knows nothing of any data plane.
package proxytest
