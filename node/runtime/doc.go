// Package runtime is the container runtime of the embedded node: k8s.io/cri-api's RuntimeService and
// ImageManagerService, without containerd. It keeps the records and decides; the sandbox package makes
// networks, and the shim, a process that outlives this one, has the containers.
//
//	node ──CRI──▶ Runtime ──┬── records: <data>/sandboxes/<id>, <data>/containers/<id>
//	                        ├── sandbox: namespaces, veth, addresses, masquerade
//	                        ├── image: <data>/images
//	                        ├── process: exec, straight into a container's namespaces
//	                        └── shim.Client ──unix socket──▶ shim process: echo servers, processes, logs
//
// Invariants:
//   - A record is written before the first thing it describes exists, and goes after the last: what a crash
//     leaves is found and removed by the next start.
//   - A container that runs is adopted by the next start; one whose shim died is Exited, never lost.
//   - What CRI asks for and this runtime has not is a gRPC status Unimplemented, never a made-up answer.
//   - Cleanup needs nothing but the data directory.
package runtime
