// Package binder gives pods a node: a small scheduler for one or a few nodes, in the words of kube-scheduler. Fit and
// Place are pure and decide over a Cluster value; Binder keeps that value up to date from the informers and makes the
// API calls.
//
//	Pod, Node, Namespace, PersistentVolume(Claim), StorageClass ──watch──▶ Cluster (nodes, what they hold, promises)
//	                                                                          │
//	pending pod ──▶ queue ──▶ Place(pod, Cluster) ──fits──▶ promise it ──▶ POST pods/binding, Event Scheduled
//	                  ▲                │                        │ a claim of it is not bound yet
//	                  │                │                        └──▶ select node or volume for it, wait ──┐
//	                  ├── a change ── waiting ◀──fits nowhere── PodScheduled=False, Event FailedScheduling │
//	                  └── a claim or a volume changed ◀────────────────────────────────────────────────────┘
//
// Invariants:
//   - A pod that was promised to a node counts there until its binding failed or the watch shows where it is.
//   - Nothing is polled: a waiting pod is tried again when a node, a pod, a namespace or a claim changed in a way that
//     can matter, and each failed try doubles the pause before its next one.
//   - Only pods of schedulerName default-scheduler are touched; a pod with scheduling gates is left alone.
//   - A pod is bound to a node when all its claims are bound to volumes that can be had there. It keeps what it was promised
//     until then, and is placed anew whenever a claim or a volume changed.
//   - Nothing is preempted and nothing is written to a pod but its binding and its PodScheduled condition; to a claim only
//     the node that is selected for it, to a volume only the claim that is selected for it.
package binder
