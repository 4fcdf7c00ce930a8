// Package sandbox makes the network, UTS and IPC namespaces of a pod and joins them to the server's network
// namespace by a routed veth: no bridge, so every packet of a pod passes the host's netfilter hooks.
//
//	pod namespace                        server's namespace
//	┌─────────────────────┐              ┌──────────────────────────────────────────────┐
//	│ lo                  │     veth     │                                              │
//	│ eth0 10.244.0.7/32 ─┼──────────────┼─ sp<id>   route 10.244.0.7/32 dev sp<id>      │
//	│ default via         │              │  proxy ARP for 169.254.1.1, rp_filter 1       │
//	│   169.254.1.1 onlink│              │  ip_forward 1, nft table ip svcplane-pods:    │
//	└─────────────────────┘              │  pod -> not pod, not service: masquerade      │
//	                                     └──────────────────────────────────────────────┘
//
// Invariants:
//   - Links are named sp<12 hex digits>, namespace files /run/netns/sp-<12 hex digits>; nothing else is touched
//     but net.ipv4.ip_forward, whose old value is given back to the caller to be kept.
//   - Attach and Detach may be repeated and may follow a half-done Attach.
//   - An address that was given back is not handed out again before all others were.
package sandbox
