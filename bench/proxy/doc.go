// Command proxy measures the Service proxy side by side with upstream's kube-proxy and with connections that need no
// Service. One svcplane API server holds the objects; each contender follows it from a network namespace of its own,
// of the same shape, with the same client and the same pods. Measurements are taken by turns, contender after
// contender, round after round, and medians are compared: what disturbs the machine disturbs all of them.
//
//	                     api  svcplane server, 172.30.0.1
//	                    ╱  │  ╲
//	client 10.244.255.2 ── node (contender's rules) ── pod, which has all of 10.244.0.0/17
//	                       │
//	                       lan 198.18.0.0/24, which dials NodePorts
//
// Invariants:
//   - A contender is a process of its own with a kubeconfig and nothing else; all others are stopped (SIGSTOP) while
//     one is measured.
//   - Clients stand where a pod of the node does. The one without a proxy dials endpoints, through a node that has no
//     rules and tracks no connections. eBPF sees the sockets of its own client and pod, and nobody else's.
//   - Every endpoint of every Service answers, so that the Services that are looked at are not special.
//   - Namespaces, processes and files are gone at the end.
package main
