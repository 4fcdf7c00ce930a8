// Package eviction decides which pods have to go when a node runs short of memory, disk, inodes or process numbers, and which
// take more of the disk than they may: a kubelet's node-pressure eviction. It is pure: figures and pods go in.
//
//	"memory.available<100Mi,…" ─Parse─▶ Thresholds ─┐
//	what the node measured ─Observe─▶ Observations ─┴─▶ Manager.Update ─▶ thresholds that are met, conditions of the node
//	                                                          │
//	pods and what they use ──┬─ Choose (ranked) ◀─────────────┘─▶ one Eviction
//	                         └─ Exceeding (limits of the disk) ─▶ Evictions
//
// Invariants:
//   - Signals, defaults, the order of pods, reasons and messages are the kubelet's.
//   - Critical pods stay.
//   - A condition stays for a while after its last threshold was met, so that it does not flap.
//   - What was not measured meets no threshold.
package eviction
