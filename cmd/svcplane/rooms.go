package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"path/filepath"

	"k8s.io/component-base/metrics/legacyregistry"

	"svcplane/address"
	"svcplane/apiserver"
	"svcplane/catalog"
	"svcplane/controllers"
	"svcplane/dns"
	"svcplane/node"
	"svcplane/node/runtime"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/iptables"
)

// addRooms builds what leans on the API, in the order of the start.
func (h *house) addRooms(ctx context.Context, pki *apiserver.PKI, services *catalog.Catalog, c *claims) error {
	if err := h.addControllers(ctx, pki); err != nil {
		return err
	}
	for _, room := range []struct {
		name string
		add  func() error
	}{
		{partNode, func() error { return h.addNode(pki, services) }},
		{partProxy, func() error { return h.addProxy(services, c.plane) }},
		{partDNS, func() error { return h.addDNS(services) }},
		{partIngress, func() error { return h.addIngress(services, c.held) }},
	} {
		if !h.cfg.Enabled(room.name) {
			continue
		}
		if err := room.add(); err != nil {
			return err
		}
	}
	var mode func() string
	if c.plane != nil {
		mode = c.plane.Mode
	}
	h.addMetrics(mode)
	return nil
}

func (h *house) addControllers(ctx context.Context, pki *apiserver.PKI) error {
	ca, err := pki.CA()
	if err != nil {
		return err
	}
	key, err := pki.ServiceAccountKey()
	if err != nil {
		return err
	}
	cfg := controllers.Config{
		RestConfig: h.api.Loopback(), Client: h.client, Factory: h.api.Informers(), Broadcaster: h.events,
		NodeName: h.cfg.NodeName, NodeAddrs: h.addresses.State().Node,
		RootCA: ca, ServiceAccountKey: key, ClientCA: clientCA(pki),
		Own:          h.cfg.listeners(),
		IngressClass: h.cfg.Enabled(partIngress),
	}
	if h.cfg.Enabled(partDNS) {
		cfg.DNSAddrs = h.cfg.DNSIPs
	}
	if h.cfg.Enabled(partNode) {
		if cfg.VolumesDir, err = filepath.Abs(volumesDir(h.cfg.DataDir)); err != nil {
			return fmt.Errorf("finding the directory of volumes: %w", err)
		}
	}
	c, err := controllers.New(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return err
	}
	h.add("controllers", c)
	h.addresses.Follow("load-balancer addresses", func(ctx context.Context, now address.State) error { return c.SetNodeAddrs(ctx, now.Node) })
	return nil
}

func clientCA(pki *apiserver.PKI) controllers.ClientCA {
	cert, key := pki.CAFiles()
	return controllers.ClientCA{Certificate: cert, Key: key}
}

func (h *house) addNode(pki *apiserver.PKI, services *catalog.Catalog) error {
	rt, err := runtime.New(runtime.Config{
		DataDir:      runtimeDir(h.cfg.DataDir),
		NodeName:     h.cfg.NodeName,
		NodeIPs:      h.cfg.NodeIPs,
		PodCIDR:      h.cfg.PodCIDRs[0],
		PodCIDR6:     h.cfg.podCIDR6(),
		NoMasquerade: h.cfg.ServiceCIDRs,
		Own:          h.cfg.listeners(),
		HostAccess:   h.hostAccess(),
		Hide:         []string{h.cfg.DataDir},
	})
	if err != nil {
		return err
	}
	serving, clientCAs, err := kubeletTLS(pki)
	if err != nil {
		return err
	}
	cfg := node.Config{
		Client: h.client, Factory: h.api.Informers(), Catalog: services, Runtime: rt, Images: rt,
		Recorder: h.recorder("kubelet"),
		Name:     h.cfg.NodeName, Addrs: h.cfg.NodeIPs, PodCIDRs: h.cfg.PodCIDRs, Domain: h.cfg.Domain, Own: h.cfg.listeners(),
		Dir:        nodeDir(h.cfg.DataDir),
		Version:    kubernetesVersion(),
		Capacity:   h.cfg.Node.Capacity,
		Refused:    h.hostRefused(),
		ServerAddr: netip.AddrPortFrom(h.cfg.NodeIP(), kubeletPort), ServingCert: serving, ClientCAs: clientCAs,
		Metrics: legacyregistry.Handler(),
	}
	if h.cfg.Enabled(partDNS) {
		cfg.DNSAddrs = h.cfg.DNSIPs
	}
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	h.node = n
	legacyregistry.RawMustRegister(n) // there is one server per process
	h.add("runtime", rt)
	h.add("node", n)
	h.addresses.Follow("routes to pods", func(ctx context.Context, now address.State) error {
		select {
		case <-rt.Ready():
			return rt.SetNodeIPs(now.Node)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return nil
}

// nodeDir is where the pods' volumes and logs lie in a data directory.
func nodeDir(dataDir string) string { return filepath.Join(dataDir, "node") }

// volumesDir is where the data of PersistentVolumes lies in a data directory.
func volumesDir(dataDir string) string { return filepath.Join(dataDir, "volumes") }

// runtimeDir is where the pods' sandboxes, containers and images lie in a data directory.
func runtimeDir(dataDir string) string { return filepath.Join(dataDir, "runtime") }

func kubeletTLS(pki *apiserver.PKI) (tls.Certificate, *x509.CertPool, error) {
	certFile, keyFile := pki.KubeletServing()
	serving, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("loading the node's serving certificate: %w", err)
	}
	ca, err := pki.CA()
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return tls.Certificate{}, nil, fmt.Errorf("the certificate authority holds no certificate")
	}
	return serving, pool, nil
}

func cleanupKernel(ctx context.Context, dataDir string) error {
	return runCleanups(
		cleanupStep{"pods, their links and namespaces", func() error { return runtime.Cleanup(ctx, runtimeDir(dataDir)) }},
		cleanupStep{"the pods' volumes", func() error { return node.Cleanup(nodeDir(dataDir)) }},
		cleanupStep{"the cluster DNS address", dns.Cleanup},
		cleanupStep{"the node's spare address", address.Cleanup},
		cleanupStep{"the sockets that wait for the next start", dropSockets},
		cleanupStep{"eBPF programs", ebpf.Cleanup},
		cleanupStep{"iptables chains", func() error { return iptables.Cleanup(ctx) }},
	)
}
