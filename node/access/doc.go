// Package access says who may ask the node's own server for what, as a kubelet's webhook modes do: bearer tokens are
// reviewed by the API (TokenReview), and so is what their owners may do (SubjectAccessReview on nodes and their subresources).
//
//	request ─▶ certificate of the cluster's CA? ─┐
//	        └▶ bearer token? ─ TokenReview, 2 m ─┴▶ user ─┬▶ the API server, system:masters: everything
//	                                                      └▶ SubjectAccessReview, yes 5 m, no 30 s
//	                                                         verb of the method on nodes/{metrics,stats,log,pods,healthz,…,proxy}
//
// Invariants:
//   - The API server and administrators by certificate need no review: logs and exec work while the API is in trouble.
//   - What runs something in a pod needs the verb create, however it is asked for: GET on nodes/proxy is a reader's right.
//   - No credentials, or wrong ones: 401. No right: 403. No answer of the API: 500.
package access
