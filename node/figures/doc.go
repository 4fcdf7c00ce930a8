// Package figures says what pods and the machine use in the forms that a kubelet has: the families of cAdvisor
// (/metrics/cadvisor), those of the resource endpoint (/metrics/resource), and the summary (/stats/summary). It is
// pure: what was measured goes in.
//
//	CRI statistics + pods' statuses ──▶ []Pod ─┬─▶ Cadvisor ─▶ container_*_total{namespace,pod,container,…}
//	measure.Machine ───────────────────────────┼─▶ Resource ─▶ what metrics-server reads
//	                                           └─▶ Summary  ─▶ JSON
//
// Invariants:
//   - What was not measured is missing; nothing is 0 for want of knowledge.
//   - Names, labels and types are the kubelet's.
package figures
