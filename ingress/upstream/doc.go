// Package upstream has the endpoints that requests go to: groups of them, one for each port of a Service that a route names,
// with their connections, and the choice between them.
//
//	catalog.Service ─▶ GroupSet ─▶ Group: endpoints, replaced in place
//	                                 └─ Pick(Choice) ─▶ Endpoint ─┬─ Conns ─▶ Conn: HTTP/1.1 by hand
//	                                                              └─ RoundTrip: net/http's transports (h2c, TLS, upgrades)
//
// Invariants:
//   - Whoever has entered a group or an endpoint may use it until he leaves; it goes away after the last one.
//   - A request that may have reached an endpoint is sent again only if it is safe to repeat, and once.
//   - Endpoints that fail are passed over for a while, but never more than half of a group.
package upstream
