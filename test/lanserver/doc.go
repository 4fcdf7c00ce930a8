// Command lanserver is the machine outside the cluster that external-db points at: a web server that names itself and
// its caller, so that a test sees that it was reached, and from which address. As `lanserver keep` it is a client there, or
// on the node, that keeps its connections and counts the requests that are lost with one. As `lanserver registry` it is a registry with one image, whose links break.
//
//	pod ──▶ external-db 10.96.x.y:5432 ──▶ 192.0.2.2:5432 lanserver
//
// Invariants:
//   - The answer is one line, "lanserver ADDRESS called by ADDRESS", and depends on nothing but the connection.
package main
