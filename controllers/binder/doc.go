// Package binder gives pods a node: a small scheduler for one or a few nodes, in the words of kube-scheduler. Fit and
// Place are pure and decide over a Cluster value; Binder keeps that value up to date from the informers and makes the
// API calls.
//
//	Pod, Node, Namespace, PersistentVolumeClaim ──watch──▶ Cluster (nodes, what they hold, what was promised)
//	                                                         │
//	pending pod ──▶ queue ──▶ Place(pod, Cluster) ──fits──▶ promise it, POST pods/binding, Event Scheduled
//	                  ▲                │
//	                  └── a change ── waiting ◀──fits nowhere── PodScheduled=False, Event FailedScheduling
//
// Invariants:
//   - A pod that was promised to a node counts there until its binding failed or the watch shows where it is.
//   - Nothing is polled: a waiting pod is tried again when a node, a pod, a namespace or a claim changed in a way that
//     can matter, and each failed try doubles the pause before its next one.
//   - Only pods of schedulerName default-scheduler are touched; a pod with scheduling gates is left alone.
//   - Nothing is preempted and nothing is written to a pod but its binding and its PodScheduled condition.
package binder
