// Package process starts, enters and identifies the operating system's processes of containers, without a
// container runtime and without running this binary again: a thread of our own enters the namespaces,
// forks and is thrown away.
//
//	OnThread ──▶ Namespaces.Enter ──▶ Command.Start   (fork + exec: the container's process, or an exec)
//	    │
//	    └──▶ mounts (package rootfs) ─┬▶ Command.StartFirst  (fork, /proc, what is masked, exec: PID 1)
//	                                  └▶ ForkInit      (fork, no exec: PID 1, keeps the namespaces, reaps)
//
// Invariants:
//   - A thread whose namespaces were changed never runs other goroutines and is never the process's leader
//     (whose namespaces are the ones /proc/<pid>/ns shows).
//   - A process is only signalled after its start time was compared: a pid that was used again is left alone.
//   - Killing PID 1 kills every process of its PID namespace (pid_namespaces(7)).
package process
