// Package remote has pods run by another container runtime, containerd or CRI-O, that serves CRI on a unix socket, in the pod
// network of this node.
//
//	node ──CRI──▶ Runtime ──k8s.io/cri-client, unix socket──▶ containerd ─▶ runc ─▶ containers
//	                 │                                             │ CNI
//	                 └─ node/cni.Server ◀──────────────────────────┘
//
// Invariants:
//   - Pods and images are the runtime's: nothing of them is kept here but their place in the network. The endpoint is recorded while
//     they may exist, so that no other runtime takes the pods of this data directory for its own to start.
//   - What only the embedded runtime has is refused by name.
//   - The connection comes back by itself when the runtime restarts; meanwhile the node is NotReady, and says why.
package remote
