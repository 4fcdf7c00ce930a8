// Package listeners names the sockets that svcplane itself listens on, so that nothing an object says takes them away:
// no hostPort, NodePort, externalIP or load-balancer address. One list is made of the flags, and everybody who gives
// ports of the node away asks it.
//
//	flags ──▶ Set ──┬──▶ controllers/binder        a pod with such a hostPort stays Pending
//	                ├──▶ controllers/loadbalancer  a Service does not get the node's address for such a port
//	                ├──▶ node                      a pod that names its node itself is failed
//	                ├──▶ node/sandbox              rules of hostPorts pass such packets by
//	                ├──▶ proxy.Build               a Service is served without such an address
//	                └──▶ proxy/{iptables,ebpf}     what is offered all the same is not translated
//
// Invariants:
//   - A Listener at an unspecified address has the port at every address of the machine, and at no other: a virtual
//     address that the machine does not have is a Service's to use.
//   - A port of every address and a port of one address clash, as they do in bind(2).
//   - Pure: the machine's addresses are told, not looked up.
package listeners
