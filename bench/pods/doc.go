// Command pods measures how long a container takes from an image that is there to a process that runs, with the embedded
// container runtime and with containerd and runc, which get the same calls (CRI) by turns. run.sh makes it a place.
//
//	for each contender, by turns:
//	  RunPodSandbox ▸ CreateContainer ▸ StartContainer ─▶ process ── its name, by a unix socket in a volume ─▶ the clock stops
//
// Invariants:
//   - Both have the same image, of one layer with one static program, a network with an address for each pod, and limits of CPU and memory.
//   - The clock runs until the process itself says that it runs: what a runtime answers does not count.
package main
