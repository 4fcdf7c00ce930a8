package apiserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/egressselector"
	"k8s.io/apiserver/pkg/storage"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	discoveryclient "k8s.io/client-go/kubernetes/typed/discovery/v1"
	"k8s.io/kubernetes/pkg/controlplane"
	"k8s.io/kubernetes/pkg/controlplane/reconcilers"
)

// advertised is the address that default/kubernetes leads to. Upstream's reconciler writes it, for the one API server that
// there is, and gets another address here. At the end the endpoint stays: what is left in the kernel leads there, and
// the next start finds it.
type advertised struct {
	upstream reconcilers.EndpointReconciler
	services corev1client.ServicesGetter
	written  chan struct{} // closed when it has been written

	ip atomic.Pointer[netip.Addr]

	mu      sync.Mutex
	service string // that upstream's controller asked for, with its ports; empty: not yet
	ports   []corev1.EndpointPort
	ending  bool
}

// newAdvertised puts itself into config.
func newAdvertised(ip netip.Addr, config *controlplane.Config) *advertised {
	loopback := config.ControlPlane.Generic.LoopbackClientConfig
	core := corev1client.NewForConfigOrDie(loopback)
	adapter := reconcilers.NewEndpointsAdapter(core, discoveryclient.NewForConfigOrDie(loopback))
	a := &advertised{
		services: core,
		written:  make(chan struct{}),
		upstream: reconcilers.NewMasterCountEndpointReconciler(1, adapter),
	}
	a.ip.Store(&ip)
	config.Extra.EndpointReconcilerConfig.Reconciler = a
	return a
}

// ReconcileEndpoints is upstream's, for another address than it knows, and with the ports of this start: upstream has left
// those of an earlier one since 1.17, as other API servers may have them.
func (a *advertised) ReconcileEndpoints(service string, _ net.IP, ports []corev1.EndpointPort, _ bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.service, a.ports = service, ports
	return a.write()
}

// write is called with a.mu held.
func (a *advertised) write() error {
	if err := a.upstream.ReconcileEndpoints(a.service, a.ip.Load().AsSlice(), a.ports, true); err != nil {
		return err
	}
	select {
	case <-a.written:
		return nil
	default:
	}
	if err := a.target(); err != nil {
		return err
	}
	close(a.written)
	return nil
}

// target has the Service say the ports that its endpoint has.
func (a *advertised) target() error {
	ctx := context.Background()
	services := a.services.Services(metav1.NamespaceDefault)
	service, err := services.Get(ctx, a.service, metav1.GetOptions{})
	if err != nil {
		return err
	}
	changed := false
	for i := range service.Spec.Ports {
		port := &service.Spec.Ports[i]
		for _, p := range a.ports {
			if to := intstr.FromInt32(p.Port); p.Name == port.Name && port.TargetPort != to {
				port.TargetPort, changed = to, true
			}
		}
	}
	if !changed {
		return nil
	}
	_, err = services.Update(ctx, service, metav1.UpdateOptions{})
	return err
}

// RemoveEndpoints leaves the endpoint, and says at the start that an earlier run has ended as it should.
func (a *advertised) RemoveEndpoints(service string, _ net.IP, _ []corev1.EndpointPort) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ending {
		return nil
	}
	return storage.NewKeyNotFoundError(service, 0)
}

// StopReconciling is upstream's.
func (a *advertised) StopReconciling() {
	a.mu.Lock()
	a.ending = true
	a.mu.Unlock()
	a.upstream.StopReconciling()
}

// Destroy is upstream's.
func (a *advertised) Destroy() { a.upstream.Destroy() }

func (a *advertised) set(ip netip.Addr) error {
	a.ip.Store(&ip)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.service == "" {
		return nil
	}
	return a.write()
}

// discover has the API say where it is (GET /api) by the address that holds.
func (a *advertised) discover(generic genericapiserver.CompletedConfig) {
	if was, ok := generic.DiscoveryAddresses.(discovery.DefaultAddresses); ok {
		_, port, err := net.SplitHostPort(generic.ExternalAddress)
		if err == nil {
			generic.DiscoveryAddresses = live{a, was, port}
		}
	}
}

type live struct {
	*advertised
	rules discovery.DefaultAddresses
	port  string
}

// ServerAddressByClientCIDRs is discovery.Addresses'.
func (l live) ServerAddressByClientCIDRs(client net.IP) []metav1.ServerAddressByClientCIDR {
	now := l.rules
	now.DefaultAddress = net.JoinHostPort(l.ip.Load().String(), l.port)
	return now.ServerAddressByClientCIDRs(client)
}

// inside has the API reach the node by dial.
func inside(dial func(context.Context) (net.Conn, error)) egressselector.Lookup {
	return func(egressselector.NetworkContext) (utilnet.DialFunc, error) {
		return func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }, nil
	}
}

// SetNodeIP follows the node's address: default/kubernetes leads there, with the certificate that the PKI has by now.
func (s *Server) SetNodeIP(ctx context.Context, ip netip.Addr) error {
	if runner, ok := s.serving.(dynamiccertificates.ControllerRunner); ok {
		if err := runner.RunOnce(ctx); err != nil { // upstream watches the files, too, and looks now and then
			return fmt.Errorf("reading the API's certificate: %w", err)
		}
	}
	if err := s.advertised.set(ip); err != nil {
		return fmt.Errorf("leading default/kubernetes to %s: %w", ip, err)
	}
	return nil
}
