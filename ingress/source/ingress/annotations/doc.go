// Package annotations knows the annotations of the common ingress controllers and what ignoring each of them would do.
// Some are carried out; of the others some only change how a request is served, and some restrict who gets in. An Ingress
// that was written for another controller relies on the second kind, so its routes are closed while it carries one of them.
// The package is pure: it reads keys and values and knows nothing of routes.
//
//	key, value ─▶ controller by prefix ─▶ row by name ─▶ Honoured  ─▶ carried out by package ingress
//	                                          │          HTTPSOnly ─▶ plain requests are redirected
//	                                          │          Harmless  ─▶ an Event
//	                                          │          Restricts ─▶ unless the value switches it off: an Event, and 503
//	                                          └ no row: Restricts if a word of its name is one of protection, else Harmless
//	rows ─▶ Table, Reference ─▶ docs/ingress.md, docs/annotations.md
//
// Invariants:
//   - What is not understood closes: a value that does not switch a protection off for certain, a directive of a snippet
//     that is not known to be harmless, an unknown name with a word of protection.
//   - Each name of a controller stands in one row.
//   - The documents are what Table and Reference print.
package annotations
