// Package ingress translates Ingress objects into routes: rules, annotations and certificates. It is pure.
//
//	Ingress ─▶ Classes.Judge: whose is it? ─▶ Translate ─▶ route.Translation: routes with their policy, certificates, problems
//	                                             └─ annotations: those that are honoured, and what the others ask for
//
// Invariants:
//   - Translate looks at the Ingress alone: whether Services and Secrets exist is found out later.
//   - What cannot be served is a problem with its remedy; the rest of the object is served.
//   - An annotation that protects and cannot be understood, or is not carried out, closes the routes.
package ingress
