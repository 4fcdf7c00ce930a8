// Package traffic has conversations over TCP and UDP go on while the network between their ends is changed. A client asks a
// question several times a second, and the endpoint that answered the first one has to answer all of them.
//
//	Talk ── 1, 2, 3 ... ──▶ a Service ──▶ Serve "a": 1a, 2a, 3a ...
//	  └──── 1, 2, 3 ... ─── plain ──────▶
//
// Invariants:
//   - A conversation is broken by an error, an answer to another question, from another endpoint, or from another
//     address than the one that was dialled. Nothing is asked twice: a datagram that is lost breaks it, too.
//   - How long an answer took is the network's and the machine's doing. Plain conversations, which need no Service, go
//     on beside the others between the same programs and say how much of it was the machine's.
package traffic
