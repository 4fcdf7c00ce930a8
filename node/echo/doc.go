// Package echo is the server in the builtin image svcplane/echo: it tells its clients who answered and what
// arrived, so that every property of a Service can be seen with curl, dig or nc.
//
//	       ┌─ TCP port ─▶ HTTP/1.1, h2c ─┬─▶ / /hostname /clientip /echo /status /delay /bytes /healthz /exit
//	Listen ┤                             ├─▶ /ws                     WebSocket echo
//	       │                             └─▶ grpc.health.v1.Health   gRPC, same health as /healthz
//	       └─ UDP port ─▶ "hostname", "clientip", or the datagram back, from the address it was sent to
//
// Invariants:
//   - Listen opens all sockets or none; Run serves until its context ends, POST /exit or a broken socket.
//   - Every request and datagram is one line in the log.
//   - Nothing a client sends makes the server hold more than a bounded amount of memory.
package echo
