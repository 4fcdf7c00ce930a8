// Package pace says when a peer is slower than it may be. Whoever waits for a peer says so to a Meter, and how many octets
// came or went; the Meter keeps how much longer the peer may keep us waiting. It is given the time and sets no timer: what it
// returns is a deadline for the wait.
//
//	Start ─▶ credit = Grace
//	  ┌▶ Wait(now) ─▶ deadline, at most now + credit ─▶ Done(now): credit falls by the time that was waited
//	  └─ Add(octets): credit grows by octets/Rate, up to Most ◀── what moved, as far as is known ──┘
//	Slow: credit is used up
//
// Invariants:
//   - Only time between Wait and Done counts: a peer that nobody waits for is never slow.
//   - A peer that moves Rate octets in each second that we wait is never slow, if its steps are shorter than what it has.
//   - A peer that stops is slow after Most, whatever it did before; one that never does anything after Grace. Whoever learns
//     only at the end of a wait what has moved is at most Grace later.
//   - Without a Rate, a peer is slow when it does nothing for Most.
package pace
