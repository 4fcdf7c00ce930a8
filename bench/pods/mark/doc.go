// Command mark is all that is in the image of the benchmark: it says to a unix socket that it runs, and waits for SIGTERM.
//
//	mark SOCKET NAME ── NAME, a datagram ──▶ bench-pods
//	mark                 says nothing: containerd's pause container
//
// Invariant: what it says is said once, by the process itself.
package main
