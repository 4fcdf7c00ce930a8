// Package cni gives the pods of another container runtime, containerd or CRI-O, the same network that those of the embedded one
// have. The runtime executes this binary as its CNI plugin; the plugin has no state, and hands what it was asked, with the open
// network namespace, to the server process, which knows all pods.
//
//	containerd ─exec─▶ <data-dir>/cni/bin/svcplane ─unix socket─▶ Server ─▶ podnet.Network (addresses, links, host ports)
//	                   (a link to this binary)   fd of the netns     └─▶ <data-dir>/cni/pods/ID.json
//	           ─exec─▶ <data-dir>/cni/bin/loopback    needs nobody: brings lo up
//
// Invariants:
//   - The record of a pod is on the disk before its link exists, and goes after it: a restart knows all addresses that are in use.
//   - A record whose link has gone, and a link goes with its namespace, is nobody's: it is swept at start and every minute.
//   - DEL succeeds for what is not there, and while no server runs: the sweep frees the address. ADD and CHECK fail then, and say so.
//   - ADD may be repeated: the pod keeps its addresses.
package cni
