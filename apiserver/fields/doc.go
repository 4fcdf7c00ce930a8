// Package fields says of every field that a manifest can set what becomes of it: who carries it out or, where nobody does,
// which Warning the one who set it gets. The API server takes whatever Kubernetes' types allow; this table is what keeps
// it from taking silently what has no effect here. Admission makes Warnings of it, docs/fields.md is written from it.
//
//	Structs (one per Go type) ──walk──▶ kinds ──┬─ Warnings(kind, object, what it was) ─▶ admission ─▶ kubectl's stderr
//	Annotations, Resources ─────────────────────┤
//	                                            └─ Document ─▶ docs/fields.md (go test ./apiserver/fields -update)
//	tests: every field of every kind is in one row · every served resource is · what is honoured is read by who is named
//
// Invariants:
//   - A field that a new release of Kubernetes adds is in no row, and a test fails until somebody has decided about it.
//   - A Warning is given for what a request sets or changes, once for each row, with the path as it stands in the manifest.
//   - What defaulting sets means what happens anyway, and gives no Warning.
//   - An object that sets none of the fields costs a walk over the few branches of its type that lead to rows.
package fields
