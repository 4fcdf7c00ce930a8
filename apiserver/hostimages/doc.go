// Package hostimages decides which pods may have the host's own root: those that run svcplane/host, and those whose
// svcplane/echo is entered by an exec. To Kubernetes' PodSecurity this is as privileged as privileged: true.
//
//	pod, workload ──admission──▶ PodSecurity's own evaluation + one check (baseline): no svcplane/host ─┐
//	                             Mode (--host-images) ─────────────────────────────────────────────────┴▶ allow, warn, 403
//	node, before it starts or enters a container ──Access(mode, namespace)──▶ nil, or why not
//
// Invariants:
//   - What an image reference stands for is asked from who runs it: an alias of svcplane/host is svcplane/host.
//   - Levels, versions, warnings and wording are upstream's: its evaluator runs our check beside its own.
//   - A namespace whose labels can't be read has no access.
package hostimages
