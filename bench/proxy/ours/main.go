package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/iptables"
	"svcplane/proxy/switchover"
)

// options are what the flags say.
type options struct {
	kubeconfig, name, ip string
	mode, variant        string
	cgroup, pods, state  string
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API")
	flag.StringVar(&o.name, "node-name", "node", "name of this node")
	flag.StringVar(&o.ip, "node-ip", "", "address of this node")
	flag.StringVar(&o.mode, "mode", switchover.IPTables, "the data plane: iptables or ebpf")
	flag.StringVar(&o.variant, "variant", "", "iptables to use: nft or legacy")
	flag.StringVar(&o.cgroup, "cgroup", "", "cgroup v2 folder whose processes eBPF serves at the socket")
	flag.StringVar(&o.pods, "pod-namespaces", "", "names of the network namespaces of pods, with commas")
	flag.StringVar(&o.state, "state", "", "file for what a switch has chosen")
	cleanup := flag.Bool("cleanup", false, "only remove what eBPF has left in this network namespace")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	do := func() error { return run(ctx, o) }
	if *cleanup {
		do = ebpf.Cleanup
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "ours:", err)
		os.Exit(1)
	}
}

// planes are the data planes as `svcplane server` has them.
func planes(ctx context.Context, o options, node proxy.Node) (*switchover.Switch, error) {
	var namespaces []string
	for name := range strings.SplitSeq(o.pods, ",") {
		namespaces = append(namespaces, "/run/netns/"+name)
	}
	kinds := switchover.Kinds(
		iptables.Config{PodCIDRs: node.PodCIDRs, ServiceCIDRs: node.ServiceCIDRs, Source: node.Addrs[:1], IPv6: true, Variant: iptables.Variant(o.variant)},
		ebpf.Config{
			Cgroup: o.cgroup, PodCIDRs: node.PodCIDRs, ServiceCIDRs: node.ServiceCIDRs, Source: node.Addrs,
			NodePorts: [2]uint16{30000, 32767}, Namespaces: func() ([]string, error) { return namespaces, nil },
		})
	return switchover.New(ctx, switchover.Config{Kinds: kinds, Modes: []string{o.mode}, File: o.state, Drain: time.Minute})
}

func run(ctx context.Context, o options) error {
	addr, err := netip.ParseAddr(o.ip)
	if err != nil {
		return fmt.Errorf("--node-ip: %w", err)
	}
	restConfig, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return err
	}
	restConfig.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return err
	}
	node := proxy.Node{
		Name: o.name, Addrs: []netip.Addr{addr},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
	}
	plane, err := planes(ctx, o, node)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	all, err := catalog.New(factory)
	if err != nil {
		return err
	}
	events := record.NewBroadcaster()
	defer events.Shutdown()
	p, err := proxy.New(proxy.Config{
		Catalog: all, Dataplane: plane, Node: node,
		Recorder: events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "svcplane-proxy"}),
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	done := make(chan error, 3)
	go func() { done <- all.Run(ctx) }()
	go func() { done <- p.Run(ctx) }()
	go func() { done <- plane.Run(ctx, p) }()
	return errors.Join(<-done, <-done, <-done)
}
