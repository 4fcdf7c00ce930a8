// Package catalog holds the Services and their endpoints as the data planes, the DNS zone and the ingress
// need them: API objects go in, immutable values come out. Build is pure; Catalog watches the API and tells
// its subscribers which Services are dirty. Events carry no data: a subscriber re-reads and rebuilds.
//
//	Service, EndpointSlice ──watch──▶ Catalog ──dirty keys──▶ Subscription (proxy)   ──Take/Done──┐
//	                                     │                   Subscription (dns)     ──Take/Done──┤
//	                                     │                   Subscription (ingress) ──Take/Done──┤
//	                             Get ─▶ Build ─▶ Service                                          │
//	                                     ▲                                                        │
//	node ── Drained(pod address) ────────┴───── nobody sends to it any more ◀─────────────────────┘
//
// Invariants:
//   - EndpointSlices follow their Service a moment later: until they do, a port that got another name keeps its endpoints.
//   - A Service value is never changed after Build returned it; equal inputs give equal values.
//   - The cost of one change does not depend on the number of Services.
//   - A key stays pending for a subscriber until it called Done for it: Drained relies on that.
//   - Before Ready, nobody may conclude from an absent Service that it does not exist.
package catalog
