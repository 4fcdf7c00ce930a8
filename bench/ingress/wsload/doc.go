// Command wsload measures WebSocket messages through a proxy: each connection sends one and waits for its echo. With
// -serve it is the endpoint that sends them back.
//
//	wsload -serve 127.0.0.1:9108
//	wsload -url ws://127.0.0.1:9103/ws -host h0.test -c 64 -d 2s
//
//	wsload ─▶ proxy ─▶ wsload -serve
//
// It prints on one line: messages, messages per second, p50 and p99 of the time to the echo in ms.
//
// Invariants:
//   - A message that does not come back, or comes back changed, ends it with an error: there is no figure then.
package main
