// Package probe runs the startup, liveness and readiness probes of running containers and keeps their
// verdicts.
//
//	Watch(Target) ─▶ one goroutine per probe ──try──▶ httpGet / tcpSocket / grpc / exec
//	                        │  tally (thresholds, pure)
//	                        ▼
//	                    Verdict(container) ◀── the pod's worker reads it after Changed(pod)
//
// Invariants:
//   - Verdicts belong to one container id: a restarted container starts anew.
//   - Until a startup probe has succeeded neither of the others runs.
//   - A container that was found running keeps the readiness it had until a probe says otherwise: a restart
//     of the node takes nothing out of service.
package probe
