// Package serve takes requests from connections to endpoints, by one of several ways. What net/http does well but slowly is
// done by hand where requests are plain; everything else goes by net/http. All ways ask the same table for the route and the
// same function, route.Decide, what becomes of the request.
//
//	listen.Conn ─▶ http1Conn:  HTTP/1.1, head by http1 ──┬─▶ fastpath: route, Decide ─▶ exchange ─▶ upstream.Conn
//	           └─▶ http2Conn:  HTTP/2, frames by h2 ─────┤
//	                                                     └─▶ handler: net/http, for whatever is answered here or is rare
//	                                                           ├─▶ exchange, too, where the endpoint speaks HTTP/1.1
//	                                                           └─▶ fallback: httputil.ReverseProxy
//
// Invariants:
//   - The first request on a connection that is not plain takes the connection to net/http (HTTP/1.1) or the handler (HTTP/2).
//   - A way without net/http answers nothing that it has not got from an endpoint, but failures of endpoints.
//   - A request that is passed on without a policy allocates nothing.
package serve
