// Command front runs the ingress alone, with routes from memory instead of an API server, so that a benchmark
// measures it and nothing else. It prints one line when it serves.
//
//	front -http 127.0.0.1:9103 -https 127.0.0.1:9443 -endpoint 127.0.0.1:9100 -routes 1000
//
//	wrk, h2load ─▶ front (ingress.Ingress) ─▶ endpoint
//	                 ▲
//	                 └─ fake client: Ingresses h0.test, h1.test, …, one Service, one Secret
//
// Invariants:
//   - What serves requests is the ingress as the server runs it; only the API behind it is not real.
package main
