// Package ingress serves HTTP as the API's objects say. A source translates objects into routes; the assembly binds them to
// the endpoints that they send to, to the policies in force and to certificates; a server takes requests to ready endpoints
// of the Service, never through its ClusterIP, so that balancing is per request. This package is the assembly; the packages
// below it each know one thing.
//
//	objects ─▶ source ─ Translate ─▶ routes ─▶ route.Set ─▶ bind ─▶ route.Table ──┐ swapped atomically
//	Secrets ─▶ source ─▶ certificates, users ────────────────────────────────────┤
//	catalog.Service ─▶ upstream.GroupSet (endpoints, replaced in place) ──────────┤
//	                                                                              ▼
//	client ─▶ listen: socket, PROXY protocol, TLS ─▶ serve: head, route, route.Decide ─▶ upstream ─▶ endpoint
//
// What imports what: source knows route; upstream knows route; serve knows route, upstream, listen and the wire formats
// (http1, h2); route, http1, h2 and listen know none of the others. test/imports_test.go holds it.
//
// Invariants:
//   - A table is never changed after it was published; a change of endpoints does not touch it.
//   - The path that was matched is the path that the endpoint receives.
//   - The cost of a match does not depend on the number of hosts or routes, only on the length of the path.
//   - A Service is acknowledged to the catalog only when no request can start on an endpoint that left it.
//   - Whatever way a request takes, the endpoint and the client see the same; what net/http's way refuses, the others
//     never accept.
//   - What cannot be served has an Event on its object; everything else is served.
//   - A protection that is asked for and not carried out closes the routes; a canary is no way round what its main route
//     asks of requests.
package ingress
