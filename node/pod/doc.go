// Package pod decides what a pod needs next and what is said of it: the pod life cycle of the Kubernetes documentation. It is
// pure: it is given the pod, what the runtime holds of it and what its probes say, and changes none of them.
//
//	Pod, State, Verdicts ─▶ MakePlan   ─▶ Plan: sandbox, containers to kill, containers to start
//	Input                ─▶ MakeStatus ─▶ PodStatus: phase, conditions, container statuses
//
// Invariants:
//   - The same input gives the same plan: nothing is remembered here.
//   - A phase that is final stays, and conditions that others write are kept.
//   - Labels and annotations at the runtime are the kubelet's.
package pod
