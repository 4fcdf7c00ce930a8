// Package systemd reports to the service manager how this process is (sd_notify(3)): that it serves, what it does, that it
// stops, and, only while it works, that it is alive. Without systemd, which is without NOTIFY_SOCKET, all of it does nothing.
//
//	NOTIFY_SOCKET, WATCHDOG_USEC ─Take─▶ Manager ─Notify─▶ READY=1, STOPPING=1, STATUS=…
//	 (and out of the environment)           │
//	        Health: does it work? ────────▶ Run ─▶ WATCHDOG=1 at half of WATCHDOG_USEC, STATUS=…
//
// Invariants:
//   - What this process starts inherits no way to speak for it: the variables are removed when they are read.
//   - WATCHDOG=1 is sent by the goroutine that has looked, after it has looked: where looking hangs, nothing is sent.
//   - An error at systemd's socket is logged, and changes nothing else.
package systemd
