// Package apiserver is the API: the upstream kube-apiserver chain in this process, on the store (package store), with the
// certificate authority and the kubeconfig that go with it.
// Semantics, validation, defaults, printers and allocators are upstream's; what is decided here is which
// groups are served, where secrets lie, and how the rest of the process reaches the API.
//
//	store (etcd, unix socket) ◀── aggregator ─▶ kube API groups ─▶ apiextensions (CRDs) ─▶ 404
//	                                  ▲                ▲
//	PKI (CA, keys, certificates) ─────┘                └── loopback client ── informers ── all other packages
//	      └── kubeconfig (admin, 0600)
//
// Invariants:
//   - Nothing secret is readable by others: directories 0700, keys and the kubeconfig 0600.
//   - The identity of the cluster (CA, service-account key, store) does not depend on the machine's addresses
//     or on its clock; only the serving certificate follows the addresses.
//   - The store listens on a unix socket in the data directory and on nothing else.
//   - Keys and store belong together: one without the other is refused, and nothing new is made in its place.
//   - A request that sets what nobody carries out gets a Warning; package fields says what that is.
//   - One API server per process: upstream keeps schemes and feature gates in package variables.
package apiserver
