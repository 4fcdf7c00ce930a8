// Package echo is the server in the builtin image svcplane/echo: it tells its clients who answered and what
// arrived, so that every property of a Service can be seen with curl, dig or nc.
//
//	       ┌─ TCP port ─▶ HTTP/1.1, h2c ─┬─▶ / /hostname /clientip /echo /status /delay /bytes /healthz /exit
//	Listen ┤                             ├─▶ /ws                     WebSocket echo
//	       │                             └─▶ grpc.health.v1.Health   gRPC, same health as /healthz
//	       └─ UDP port ─▶ "hostname", "clientip", or the datagram back, from the address it was sent to
//
// After SIGTERM (lame duck) no data plane sends new connections here, but clients hold open ones, and a server that hangs up on an idle
// connection resets the request that is just entering it. So each answer is the connection's last and says so, HTTP/2 gets the
// first of two GOAWAY frames, and what is still idle after three seconds, sooner in a short grace period, is closed. A server of
// your own does the same, or its preStop hook tells it to answer with Connection: close and then sleeps for longer than clients pause
// between requests. A hook that only sleeps helps with connections that their clients give up meanwhile, not with those in use.
// From the moment of deletion, hook included, a pod gets no new connections; the readiness probe need not fail for that.
//
// Invariants:
//   - Listen opens all sockets or none; Run serves until its context ends, POST /exit or a broken socket.
//   - A request that enters a connection before it is closed is answered, also after Run's context ended.
//   - Every request and datagram is one line in the log.
//   - Nothing a client sends makes the server hold more than a bounded amount of memory.
package echo
