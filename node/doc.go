// Package node makes this machine a Kubernetes node: it registers it, and brings what a container runtime
// holds to what the pods bound to it ask for. The runtime is reached through the CRI interfaces only.
//
//	Pods (nodeName = ours) ─┐                 ┌─ Sources: ConfigMaps, Secrets, Services, tokens
//	runtime events, relist ─┼─▶ worker per pod ┤
//	probe verdicts ─────────┘   │             └─ pod, probe, volume, env, names (sub-packages)
//	                            │ readState ─▶ pod.MakePlan   ─▶ sandbox, start, kill
//	                            └ readState ─▶ pod.MakeStatus ─▶ patch of pods/status
//	API server ──TLS, client certificate──▶ serve (logs, exec, attach, port-forward) ──▶ runtime
//
// Invariants:
//   - Level-triggered: a worker reads the pod and the runtime again each time; a wake carries nothing.
//   - One goroutine per pod acts on it, so nothing of a pod is done twice at once.
//   - What runs when the process comes up is adopted as it is, by the kubelet's labels. It is not restarted,
//     and its readiness stands until a probe says otherwise.
//   - Drain, then kill: a pod on its way out gets SIGTERM after every data plane has dropped it, within the
//     bounds of its grace period.
//   - A pod object is deleted only after everything of the pod is gone from the runtime, and only with its UID.
package node
