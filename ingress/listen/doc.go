// Package listen has what happens to a client's connection before its first request: sockets and who may have how many
// connections, the PROXY protocol, TLS with the certificate for a name, and the handover of sockets from one process to the
// next.
//
//	Listen, or Take from the last process ─▶ Acceptor: limits ─▶ PROXY header ─▶ TLS ─▶ Serve(Conn, tls)
//
// Invariants:
//   - The fuller it gets, the less of the connections one client may have, so that one cannot keep the others out.
//   - A client that takes too slowly what is written to it is cut off, whatever it is that is written.
//   - Between two processes connections wait; none is refused.
package listen
