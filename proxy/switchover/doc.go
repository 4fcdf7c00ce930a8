// Package switchover exchanges one data plane for another while connections live. A Switch is a Dataplane that
// passes everything on to the one that serves, and to both while there are two.
//
//	         ┌ proving ────────────────┐ ┌ draining ───────────────────────┐
//	settled ─┤ next: whole table,      ├─┤ next is active, current drains: ├─▶ settled, current is closed
//	         │ read back, probe        │ │ its connections end, or a time  │
//	         └───── else: closed ──────┘ └── probe fails: the other way ───┘
//
// Invariants:
//   - New connections change hands by one write in the kernel, after the next data plane has been proven.
//   - A connection stays with the data plane that began it, and every change is written to both.
//   - The file of the Switch is written before new connections change hands. A start finds out by looking at the
//     kernel whether there are two, and goes on draining the one that does not serve: so a crash is finished when
//     new connections were due to change hands, and undone otherwise.
package switchover
