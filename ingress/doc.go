// Package ingress is the one door for HTTP: it turns Ingress objects into an immutable routing table, terminates
// TLS with the certificates of the named Secrets, and sends every request straight to a ready endpoint of the
// Service, never through its ClusterIP, so that balancing is per request. Routing, balancing and serving know
// nothing of the Ingress resource: compile.go is the only place where its fields are read.
//
//	Ingress, IngressClass ─▶ compile ─▶ claim ─▶ routeSet ─▶ Table ──┐ swapped atomically
//	Secret (kubernetes.io/tls) ─▶ certStore ─▶ certTable ────────────┤
//	catalog.Service ─▶ Group (endpoints, replaced in place) ─────────┤
//	                                                                 ▼
//	client ─▶ conn ─▶ [TLS by SNI] ─┬▶ fast: HTTP/1.1 ────────────┬─▶ Table.Match(host, path) ─▶ Group ─▶ endpoint
//	                                ├▶ h2.Conn ─▶ quick: HTTP/2 ──┤
//	       what is not ordinary:    └▶ strictConn ─▶ net/http ────┘
//
// Invariants:
//   - A Table is never changed after it was published; a change of endpoints does not touch it.
//   - The path that was matched is the path that the endpoint receives.
//   - The cost of a match does not depend on the number of hosts or routes, only on the length of the path.
//   - A Service is acknowledged to the catalog only when no request can start on an endpoint that left it.
//   - Whatever way a request takes, the endpoint and the client see the same; what net/http's way refuses, the others
//     never accept.
//   - What cannot be served is told by an Event on its Ingress; everything else is served.
//   - A protection that is asked for and not carried out closes the routes (package annotations); a canary is no way round
//     what its main route asks of requests.
package ingress
