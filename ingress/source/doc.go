// Package source watches the objects that say what is routed and the Secrets that they refer to. It translates what has
// changed, and writes back to the objects what became of them: addresses into the status, problems as Events.
//
//	Ingress, IngressClass, Secret ─▶ dirty ─▶ Take: Translate ─▶ Changes ─▶ whoever serves
//	status, Events ◀── feedback ◀── Report, Problems ◀──────────────────────────┘
//
// Invariants:
//   - Events of the API carry no data: an object that changed is read again.
//   - An object that translates to the same as before is no change.
//   - The status of an object that another controller has is not touched, but to take back addresses that were written before.
package source
