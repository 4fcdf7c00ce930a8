// Package footprint makes a process that has started small. The server and the shim of containers are the
// same large binary: starting it touches nearly all of its code and constants once, and needs few of them
// again.
//
//	start ──▶ heap with garbage, code touched once
//	                 │ Shrink
//	                 ▼
//	          live heap; pages of code and of read-only files unmapped, back from the page cache when used
//
// Invariants: nothing that the process wrote is touched, and Shrink may be called at any time.
package footprint
