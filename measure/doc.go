// Package measure reads what processes and links use from /proc, where nothing else counts it, and what folders take of their
// disk.
//
//	/proc/<pid>/{stat,ns/pid} ──▶ Read ──▶ Processes ──▶ Inside(init), Below(process) ──▶ Use: time, memory, how many
//	/proc/<pid>/smaps_rollup ───────────────────────────────▲
//	/proc/thread-self/net/dev, in a network namespace ──▶ Links
//	/proc/{stat,meminfo,vmstat,…} ──▶ Machine
//	statfs ──▶ Disk;  folders that are asked for ──▶ Trees, in the background ──▶ Tree: octets, inodes
//
// Invariants:
//   - The time of a process that has ended is its parent's (times(2)), so that the sum over a PID namespace grows.
//   - Memory that processes share is divided among them (proportional set size); page cache that no process has mapped is
//     nobody's.
//   - Nobody waits for a walk over a disk, and a walk is followed by a rest that is nine times as long.
//   - A process that ends while it is read uses nothing: that is no error.
package measure
