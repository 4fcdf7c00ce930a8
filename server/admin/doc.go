// Package admin is how commands ask a running server: over a unix socket in its data directory, by HTTP, with answers in JSON.
// A Method names a question once, with the types of what is asked and answered; the command calls it and the server handles it.
//
//	command ─▶ Method.Call(request) ─▶ svcplane.sock (0600) ─▶ Server ─▶ Method.Handle: what the server does
//	   ▲                                                                        │ an answer
//	   └────────── JSON; 400: the caller's mistake; else an error in a line ◀───┘
//
// What proxy, DNS and ingress have to say about one connection, name or URL is one type, Explanation.
//
// Invariants:
//   - Who may open the data directory (0700) may ask, and nobody else.
//   - A mistake of the caller stays one on its way: a handler's BadRequest is a BadRequest for whoever asked.
//   - The package knows none of those who answer: the server turns their values into the types here.
package admin
