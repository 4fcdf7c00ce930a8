// Package metrics declares families of metrics once, so that what is collected, what docs/metrics.md says and what a
// registry checks are the same. Beside its own families (svcplane_*) a room has those of the peer whose work it does, with the
// peer's names, labels, types and buckets, computed from the same counters when somebody asks: what people's dashboards and
// alerts are written for finds its data.
//
//	hot path ──▶ atomics of the room ──▶ Collect ──▶ Family.Value, Family.Histogram ──▶ registry ──▶ scrape, the API, the node
//	                                                   │
//	                                     Families ─────┴──▶ docs/metrics.md, promlint
//
// Invariants:
//   - A room's collector describes every Family that it collects; a registry refuses the others.
//   - What counts on a hot path knows no Prometheus: a Family is used when somebody asks.
//   - The values of labels are bounded by what the cluster has, never by what clients ask for.
package metrics
