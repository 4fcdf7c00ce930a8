// Package admin is how commands ask a running server: over a unix socket in its data directory, by HTTP, with answers in JSON.
//
//	command ─▶ Ask(method, path, query) ─▶ svcplane.sock (0600) ─▶ Server ─▶ the handler of that path
//	   ▲                                                                          │ a value
//	   └────────── JSON; 400: the caller's mistake; else an error in a line ◀─────┘
//
// Invariants:
//   - Who may open the data directory (0700) may ask, and nobody else.
//   - A mistake of the caller stays one on its way: a handler's BadRequest is a BadRequest for whoever asked.
//   - The handlers come from the server; this package knows no other package of svcplane that does the work.
package admin
