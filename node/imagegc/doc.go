// Package imagegc removes images that no container uses when their disk fills up, or when nobody has used them for long, by
// the kubelet's rules (Kubernetes: "Garbage collection of unused containers and images").
//
//	images and containers of the runtime ──▶ who was used when
//	the disk is fuller than the high threshold ──▶ least recently used first ──▶ RemoveImage, until the low one is reached
//	not used for longer than MaxAge ─────────────▶ RemoveImage
//	                                                  └─▶ not enough: FreeDiskSpaceFailed, ImageGCFailed on the Node
//
// Invariants:
//   - What a container uses, and what the runtime calls pinned, is never removed.
//   - What is freed is read from the disk, not added up of sizes: layers go with the last image that has them.
package imagegc
