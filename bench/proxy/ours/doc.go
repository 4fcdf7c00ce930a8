// Command ours is the Service proxy alone, as a process of its own that follows any API server: what the benchmarks
// put beside kube-proxy, so that memory and CPU time are those of the proxy and not of a whole server.
//
//	kubeconfig ─▶ informers ─▶ catalog ─▶ proxy ─▶ switchover ─▶ iptables, eBPF
//
// Invariant: it is wired as `svcplane server` wires it.
package main
