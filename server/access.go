package server

import (
	"crypto/tls"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
)

// Access is all that a Node has of the control plane. It is made by the control plane of the same process; a node of another
// machine would bring the same over the network.
type Access struct {
	Rest      *rest.Config         // privileged, not rate limited
	Client    kubernetes.Interface // of the same
	Informers informers.SharedInformerFactory
	Events    record.EventBroadcaster // records to the API
	CA        []byte                  // PEM: the authority of the cluster, whose clients the node's own server trusts
	// Serving is a certificate of that authority for the node's own server at these addresses.
	Serving func(addrs []netip.Addr) (tls.Certificate, error)
}

// recorder records Events of a component on a node.
func (a *Access) recorder(component, node string) record.EventRecorder {
	return a.Events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component, Host: node})
}
