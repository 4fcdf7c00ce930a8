// Package metrics declares families of metrics once, so that what is collected, what docs/metrics.md says and what a
// registry checks are the same. Beside its own families (svcplane_*) a package has those of the program whose work it does
// (kube-proxy, CoreDNS, ingress-nginx, the kubelet), with their names, labels, types and buckets, computed from the same
// counters at a scrape: existing dashboards and alerts find their data.
//
//	hot path ──▶ atomics of a package ──▶ Collect ──▶ Family.Value, Family.Histogram ──▶ registry ──▶ scrape, the API, the node
//	                                                   │
//	                                     Families ─────┴──▶ docs/metrics.md, promlint
//
// Invariants:
//   - A collector describes every Family that it collects; a registry refuses the others.
//   - What counts on a hot path knows no Prometheus: a Family is used at a scrape only.
//   - The values of labels are bounded by what the cluster has, never by what clients ask for.
package metrics
