// Command changes measures, through a running svcplane server, how long it takes until many Ingresses are served, and until
// the change of one is. It brings its own endpoint and removes what it made.
//
//	changes -kubeconfig FILE -ingress 127.0.0.1:80 -endpoint 192.0.2.1:9100 -n 1000
//
//	changes ─▶ API: Service, EndpointSlice, N Ingresses ─▶ server
//	   └─────── GET to the ingress until it answers 200 ────▶┘
//
// Invariants:
//   - A time ends when the request that shows the change is answered, not when somebody says that it is in force.
package main
