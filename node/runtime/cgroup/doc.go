// Package cgroup limits what processes use, by control groups of version 2, of version 1, or of both on one machine (the
// hybrid layout). One Tree belongs to one data directory, so that several servers on a machine never meet:
//
//	/svcplane-<8 hex>/kubepods/{burstable,besteffort}/pod<uid>/<container>     as the kubelet's cgroupfs driver lays it out
//	                 └────────────── pod<uid>/<container>                      pods of the class Guaranteed
//
//	/proc/self/mountinfo ──Find──▶ System: where each controller is ──Open──▶ Tree ──Make, Set, Remove, Sweep──▶ kernel
//	                                                                            └──Place──▶ process: starts inside
//
// Invariants:
//   - Mounts are looked for, never assumed. Nothing is mounted, and nothing outside of the tree is changed but for the
//     controllers that cgroup v2 has to hand down to it.
//   - A controller that is missing or not writable takes away what it limits, and nothing else; Tree.Missing says which and why.
//   - A process is in its cgroup before it executes anything: on version 2 it is forked into it, on version 1 the thread
//     that forks is in it, and only while it does.
//   - What is in the tree and belongs to nobody goes with the next Sweep.
//
// Files are written by opencontainers/cgroups, which knows in which order the kernel takes them.
package cgroup
