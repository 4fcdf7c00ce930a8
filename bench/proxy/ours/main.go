package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/iptables"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API")
	name := flag.String("node-name", "node", "name of this node")
	ip := flag.String("node-ip", "", "address of this node")
	variant := flag.String("variant", "nft", "iptables to use: nft or legacy")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, *kubeconfig, *name, *ip, iptables.Variant(*variant)); err != nil {
		fmt.Fprintln(os.Stderr, "ours:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, name, ip string, variant iptables.Variant) error {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return fmt.Errorf("--node-ip: %w", err)
	}
	restConfig, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	restConfig.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return err
	}
	pods, services := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	plane, err := iptables.New(iptables.Config{PodCIDRs: pods, ServiceCIDRs: services, Source: addr, IPv6: true, Variant: variant})
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
		Catalog: all, Dataplane: plane, Recorder: events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "svcplane-proxy"}),
		Node: proxy.Node{Name: name, Addrs: []netip.Addr{addr}, PodCIDRs: pods, ServiceCIDRs: services},
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	done := make(chan error, 2)
	go func() { done <- all.Run(ctx) }()
	go func() { done <- p.Run(ctx) }()
	return errors.Join(<-done, <-done)
}
