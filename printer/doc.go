// Package printer prints what a command has found out: as a table for people, or as JSON or YAML for programs, once or anew
// each time that it changed. The two forms for programs are made of one value, by its JSON tags.
//
//	-o table|json|yaml ──┐              ┌─▶ Table(w, value)      once: the table, a document
//	-w ──────────────────┤              │
//	Source.Get ─ value ──┴─▶ Print ─────┤   on a terminal: the screen is written anew
//	    ▲          │                    └─▶ in a pipe: the next table after an empty line,
//	    └─ Period ─┘ -w                         JSON one document a line, YAML after ---
//
// Invariants:
//   - What is printed for programs depends on the value alone: not on the clock, the terminal, the order of a map.
//   - Watching prints nothing while nothing changed, ends without an error when its context does, and outlives what it asks:
//     a failure after the first answer is printed once, and the next answer is printed again.
package printer
