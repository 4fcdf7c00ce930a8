// Package route decides what becomes of a request. It is pure: it knows neither sockets nor objects of the API, and what it
// is given it does not change.
//
//	Route ─▶ Set: which of the objects' routes are in force ─▶ Table: host, path, Condition ─▶ the route of a request
//	Policy ─▶ Compile ─▶ Plan: steps in their order ─▶ Decide(Request) ─▶ Decision: an answer, or what to send and where
//
// Invariants:
//   - A Table finds values of any type, and knows nothing of them.
//   - Older objects win conflicts, whatever their kind.
//   - Every field of a Policy becomes a step of its Plan, or the tests of this package fail.
//   - A path that servers read in several ways never takes a request past a policy that restricts one of the readings.
package route
