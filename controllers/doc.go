// Package controllers runs what makes the API's objects come true: the upstream controllers that Services and workloads
// need, the binder that gives pods a node, the load-balancer addresses, volumes on the node's disk, and the objects that
// every svcplane has. They all share one set of informers.
//
//	                       ┌─ upstream: endpoints, endpointslice, deployment, job, namespace, persistentvolume, …
//	informers ──watch──▶ ──┼─ binder         pods/binding
//	(one factory)          ├─ loadbalancer   services/status
//	                       ├─ localpath      persistentvolumes, and their directories
//	                       └─ garbage collector, quota: the same informers where there are, metadata-only ones elsewhere
//	defaults ──once──▶ IngressClass svcplane, StorageClass local-path, Service kube-system/kube-dns
//
// Invariants:
//   - New registers, Run starts and waits. All that runs before Run are upstream's event pipelines, which end with the
//     context that New was given.
//   - One watch per resource for the whole process. What nobody else follows, the garbage collector follows as metadata.
//   - No client here has a rate limit: the API server is in the same process, and nothing may wait for a token.
//   - A controller that returns or panics before the end is an error of Run, which stops the others.
//   - A default object that exists is the user's: only what cannot work is corrected.
package controllers
