package main

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"

	miekg "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/informers"

	"svcplane/catalog"
	"svcplane/dns"
)

// serve runs the name server alone, following the API as CoreDNS does.
func serve(ctx context.Context, o options) error {
	debug.SetGCPercent(25) // as the server does once it has started; answers make no garbage
	client, err := o.client()
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(strip))
	services, err := catalog.New(factory)
	if err != nil {
		return err
	}
	pods, err := dns.NewPodIndex(factory.Core().V1().Pods().Informer(), factory.Core().V1().Namespaces().Informer())
	if err != nil {
		return err
	}
	s, err := dns.New(dns.Config{
		Catalog: services, Pods: pods, Addrs: []netip.Addr{o.addr.Addr()}, Port: o.addr.Port(), Upstreams: []netip.AddrPort{o.upstream},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.244.0.0/16")},
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	go func() { _ = services.Run(ctx) }()
	go func() {
		<-s.Ready()
		fmt.Println("ready")
	}()
	defer factory.Shutdown()
	return s.Run(ctx)
}

// strip drops what no name server reads, as CoreDNS does. (In the server the controllers read the same objects, whole but
// for who manages which field, and what the name server adds is its zone.)
func strip(o any) (any, error) {
	if accessor, err := meta.Accessor(o); err == nil {
		accessor.SetManagedFields(nil)
		accessor.SetOwnerReferences(nil)
		accessor.SetUID("")
	}
	switch o := o.(type) {
	case *corev1.Service:
		o.Spec.IPFamilies, o.Spec.IPFamilyPolicy, o.Spec.InternalTrafficPolicy = nil, nil, nil
	case *discoveryv1.EndpointSlice:
		for i := range o.Endpoints {
			e := &o.Endpoints[i]
			e.NodeName, e.Zone, e.TargetRef, e.Hints = nil, nil, nil, nil
		}
	}
	return o, nil
}

// world answers every name below example. with an address, and says of every other that it does not exist.
func world(ctx context.Context, o options) error {
	failed := make(chan error, 2)
	for _, network := range []string{"udp", "tcp"} {
		server := &miekg.Server{Addr: o.addr.String(), Net: network, Handler: miekg.HandlerFunc(worldly)}
		context.AfterFunc(ctx, func() { _ = server.Shutdown() })
		go func() { failed <- server.ListenAndServe() }()
	}
	return <-failed
}

func worldly(w miekg.ResponseWriter, q *miekg.Msg) {
	m := new(miekg.Msg)
	m.SetReply(q)
	name := strings.ToLower(q.Question[0].Name)
	inside := strings.HasSuffix(name, "example.")
	if !inside {
		m.Rcode = miekg.RcodeNameError
	}
	if inside && q.Question[0].Qtype == miekg.TypeA {
		m.Answer = []miekg.RR{&miekg.A{
			Hdr: miekg.RR_Header{Name: q.Question[0].Name, Rrtype: miekg.TypeA, Class: miekg.ClassINET, Ttl: 3600}, A: []byte{192, 0, 2, 80},
		}}
	} else {
		m.Ns = []miekg.RR{&miekg.SOA{
			Hdr: miekg.RR_Header{Name: ".", Rrtype: miekg.TypeSOA, Class: miekg.ClassINET, Ttl: 3600}, Ns: "ns.example.", Mbox: "admin.example.", Minttl: 3600,
		}}
	}
	_ = w.WriteMsg(m)
}
