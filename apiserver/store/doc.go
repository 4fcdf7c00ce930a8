// Package store keeps every object of the API: an etcd that runs in this process, or an external one. Around upstream's
// etcd it does what etcd leaves to an operator: it looks at the files before they are opened, keeps disk space of its own
// for the time when there is none, and turns etcd's ways of ending a process into errors.
//
//	Open ─▶ check: meta pages ─▶ page tree ─▶ log reaches the database ─▶ reserve ─▶ etcd ─▶ Endpoints (unix socket)
//	          └── *Damage: file, position, what is wrong, how to mend         ▲          └─▶ Err: it ended by itself
//	disk's watch ─▶ Reserve ──────────────────────────────────────────────────┘ log files and database pages, allocated ahead
//
// Invariants:
//   - What cannot be opened is refused within seconds, in one line, and no file is changed before that is known.
//   - A torn last record of the log is mended, as etcd does: it was never acknowledged. Any other damage is refused.
//   - Whatever an opening waits for, it ends with its context.
//   - A failure of etcd ends the store, never the process.
package store
