package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/component-base/metrics/legacyregistry"

	"svcplane/address"
	"svcplane/catalog"
	"svcplane/diagnose"
	"svcplane/dns"
	"svcplane/node/names"
	"svcplane/printer"
)

// dnsOptions are the flags of the name server as they were written.
type dnsOptions struct {
	Upstream, Stub, Alias, Allow, Transfer []string
	TTL                                    time.Duration
	LANDomain, HTTP                        string
	CacheMB, ReplyLimit, LogEvery          int
	Autopath                               bool
}

func (o *dnsOptions) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.Upstream, "dns-upstream", nil, "servers for names outside the cluster, address or address:port (default: those in /etc/resolv.conf, followed)")
	fs.StringSliceVar(&o.Stub, "dns-stub", nil, "domain=address[:port]: a server for the names below a domain; may be repeated, also for one domain")
	fs.StringSliceVar(&o.Alias, "dns-alias-domain", nil, "further domains under which every Service has its names")
	fs.DurationVar(&o.TTL, "dns-ttl", 5*time.Second, "TTL of the cluster's names, whole seconds")
	fs.IntVar(&o.CacheMB, "dns-cache-mb", 8, "memory for upstreams' answers")
	fs.BoolVar(&o.Autopath, "dns-autopath", true, "answer the first name of a pod's search path with where the path leads; a namespace opts out by the annotation "+dns.AutopathAnnotation+": disabled")
	fs.StringVar(&o.LANDomain, "dns-lan-domain", "", "answer on --node-ip too: SERVICE.NAMESPACE.DOMAIN of LoadBalancer Services, and Ingress hosts")
	fs.StringSliceVar(&o.Allow, "dns-allow", nil, "ranges outside of this node that may ask for every name (default: none)")
	fs.StringSliceVar(&o.Transfer, "dns-axfr", nil, "ranges that may transfer the zone (default: none)")
	fs.IntVar(&o.ReplyLimit, "dns-reply-limit", 64<<10, "octets a second that one /24 or /56 outside of this node gets over UDP; more has to come by TCP")
	fs.IntVar(&o.LogEvery, "dns-log-every", 0, "log every n-th question; 0: none")
	fs.StringVar(&o.HTTP, "dns-http", "", "address:port for /health and /ready of the name server (default: on the admin socket only, below /dns)")
}

// config turns the flags into what the name server takes; the rest is for the caller.
func (o *dnsOptions) config(c *Config) (dns.Config, error) {
	d := dns.Config{
		Domain: c.Domain, Aliases: o.Alias, Addrs: c.DNSIPs, Port: dnsPort, TTL: o.TTL, CacheSize: o.CacheMB << 20,
		Networks: slices.Concat(c.ServiceCIDRs, c.PodCIDRs), NoAutopath: !o.Autopath, ReplyLimit: o.ReplyLimit, LogEvery: o.LogEvery,
		Clients: []netip.Prefix{}, NodeAddrs: c.NodeIPs, LANDomain: o.LANDomain,
	}
	var failed []error
	for _, text := range o.Upstream {
		addr, err := serverAddr(text)
		d.Upstreams = append(d.Upstreams, addr)
		failed = append(failed, flagError("dns-upstream", text, err))
	}
	for _, text := range o.Stub {
		domain, server, _ := strings.Cut(text, "=")
		addr, err := serverAddr(server)
		if problems := validation.IsDNS1123Subdomain(strings.TrimSuffix(domain, ".")); len(problems) > 0 {
			err = errors.Join(fmt.Errorf("domain %q: %s", domain, problems[0]), err)
		}
		if d.Stubs == nil {
			d.Stubs = map[string][]netip.AddrPort{}
		}
		d.Stubs[domain] = append(d.Stubs[domain], addr)
		failed = append(failed, flagError("dns-stub", text, err))
	}
	ranges := func(flag string, texts []string, to *[]netip.Prefix) {
		for _, text := range texts {
			p, err := netip.ParsePrefix(text)
			*to = append(*to, p.Masked())
			failed = append(failed, flagError(flag, text, err))
		}
	}
	ranges("dns-allow", o.Allow, &d.Clients)
	ranges("dns-axfr", o.Transfer, &d.Transfer)
	if o.HTTP != "" {
		var err error
		d.HTTP, err = netip.ParseAddrPort(o.HTTP)
		failed = append(failed, flagError("dns-http", o.HTTP, err))
	}
	return d, errors.Join(errors.Join(failed...), o.checkNumbers())
}

func (o *dnsOptions) checkNumbers() error {
	switch {
	case o.TTL <= 0 || o.TTL%time.Second != 0 || o.TTL > time.Hour:
		return fmt.Errorf("--dns-ttl %s: must be whole seconds, from 1s to 1h", o.TTL)
	case o.CacheMB < 1 || o.CacheMB > 4096:
		return fmt.Errorf("--dns-cache-mb %d: must be from 1 to 4096", o.CacheMB)
	case o.ReplyLimit < 512 || o.ReplyLimit > 1<<30:
		return fmt.Errorf("--dns-reply-limit %d: must be at least 512, one small answer a second, and at most %d", o.ReplyLimit, 1<<30)
	case o.LogEvery < 0:
		return fmt.Errorf("--dns-log-every %d: must not be negative", o.LogEvery)
	}
	return nil
}

func flagError(flag, text string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--%s %q: %w", flag, text, err)
}

// serverAddr reads an address with or without a port.
func serverAddr(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), dnsPort), nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 {
		return netip.AddrPort{}, errors.New("must be an address like 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:5353")
	}
	return at, nil
}

// addDNS builds the name server.
func (h *house) addDNS(services *catalog.Catalog) error {
	informers := h.api.Informers()
	pods, err := dns.NewPodIndex(informers.Core().V1().Pods().Informer(), informers.Core().V1().Namespaces().Informer())
	if err != nil {
		return err
	}
	cfg := h.cfg.DNS
	cfg.Catalog, cfg.Pods, cfg.NodeAddrs = services, pods, h.addresses.State().Node
	cfg.MaxConns, cfg.MaxWaiting = h.shares.DNSClients(), h.shares.DNSQuestions()
	if cfg.LANDomain != "" && h.cfg.Enabled(partIngress) {
		cfg.Ingresses = informers.Networking().V1().Ingresses().Informer()
	}
	d, err := dns.New(cfg)
	if err != nil {
		return err
	}
	legacyregistry.RawMustRegister(d) // there is one server per process
	h.admin.mux.Handle("/dns/", http.StripPrefix("/dns", d.Handler()))
	h.admin.handle("GET /dns/query", func(r *http.Request) (any, error) { return h.explain(r, d) })
	h.add("dns", d)
	h.addresses.Follow("the name server", func(_ context.Context, now address.State) error { return d.SetNodeAddrs(now.Node) })
	return nil
}

// answers is what `svcplane dns query` shows.
type answers struct {
	Asker    string            `json:"asker"`
	Searches []string          `json:"searches,omitempty"`
	Trips    []dns.Explanation `json:"trips"`
	Hints    []string          `json:"hints,omitempty"` // what may have been meant, if no name exists
}

// explain answers as the resolver of a pod, or of the node, would ask: the names of the search path one after the
// other, until one exists.
func (h *house) explain(r *http.Request, d *dns.Server) (any, error) {
	query := r.URL.Query()
	a := answers{Asker: "the node"}
	resolver := names.Resolver{}
	var from netip.Addr
	if pod := query.Get("pod"); pod != "" {
		p, addrs, err := h.podToAskFrom(r.Context(), query.Get("namespace"), pod)
		if err != nil {
			return nil, err
		}
		from = addrs[0]
		host, err := os.ReadFile("/etc/resolv.conf")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		resolver, _ = names.DNS(p, h.cfg.DNSIPs, h.cfg.Domain, names.ParseResolvConf(host))
		a.Asker, a.Searches = fmt.Sprintf("pod %s/%s (%s)", p.Namespace, p.Name, from), resolver.Searches
		if !slices.Contains(resolver.Servers, h.cfg.DNSIPs[0].String()) {
			return nil, fmt.Errorf("pod %s/%s does not ask the cluster's DNS but %s: see its dnsPolicy", p.Namespace, p.Name, strings.Join(resolver.Servers, ", "))
		}
	}
	if _, err := dns.ParseType(query.Get("type")); err != nil {
		return nil, calledWrongly(err)
	}
	for _, name := range searched(query.Get("name"), resolver) {
		e, err := d.Explain(r.Context(), name, query.Get("type"), from)
		if errors.Is(err, dns.ErrName) {
			return nil, calledWrongly(err)
		}
		if err != nil {
			return nil, err
		}
		if a.Trips = append(a.Trips, e); e.Exists() {
			return a, nil
		}
	}
	namespace := ""
	if query.Get("pod") != "" {
		namespace = query.Get("namespace")
	}
	a.Hints = h.nameHints(r.Context(), query.Get("name"), namespace)
	return a, nil
}

// podToAskFrom finds a pod and its addresses, the first of which is that of status.podIP.
func (h *house) podToAskFrom(ctx context.Context, namespace, name string) (*corev1.Pod, []netip.Addr, error) {
	p, err := h.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("pod to ask from: pod %s/%s does not exist%s", namespace, name, h.otherPod(ctx, namespace, name))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("pod to ask from: %w", err)
	}
	var addrs []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return nil, nil, fmt.Errorf("pod %s/%s has no address to ask from yet: wait until it runs", p.Namespace, p.Name)
	}
	return p, addrs, nil
}

// otherPod says which pod of a namespace may have been meant, or that there is no such namespace.
func (h *house) otherPod(ctx context.Context, namespace, name string) string {
	names, _ := h.names(ctx, kindPods, namespace) // without them there is no hint
	return cmp.Or(diagnose.Hint(name, names), h.otherNamespace(ctx, namespace))
}

// podNamed reads pod/NAME.
func podNamed(text string) (string, bool) {
	kind, pod, ok := strings.Cut(text, "/")
	return pod, ok && pod != "" && (kind == "pod" || kind == "pods" || kind == "po")
}

// searched lists the names that a resolver asks for, in their order (resolv.conf(5): search, ndots).
func searched(name string, r names.Resolver) []string {
	if strings.HasSuffix(name, ".") || len(r.Searches) == 0 {
		return []string{name}
	}
	ndots := 1
	for _, o := range r.Options {
		if _, err := fmt.Sscanf(o, "ndots:%d", &ndots); err == nil {
			break
		}
	}
	var list []string
	for _, s := range r.Searches {
		list = append(list, name+"."+s)
	}
	if strings.Count(name, ".") >= ndots {
		return append([]string{name}, list...)
	}
	return append(list, name)
}

func newDNS(dataDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dns",
		Short:   "Look at what the name server answers",
		Example: "  svcplane dns query web.shop.svc.cluster.local",
	}
	cmd.AddCommand(newDNSQuery(dataDir))
	return cmd
}

func newDNSQuery(dataDir *string) *cobra.Command {
	var from, namespace string
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "query NAME [TYPE]",
		Short: "Print what a name is answered with, and why: which record, which rule, which upstream; exit 1 if it does not exist",
		Example: "  svcplane dns query web.shop.svc.cluster.local\n" +
			"  svcplane dns query web SRV --from pod/client -n shop\n" +
			"  svcplane dns query web.shop.svc.cluster.local --watch",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: arguments(serverNames(dataDir, kindDNS, nil), oneOf(dns.Types...)),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"name": {args[0]}, "type": {"A"}, "namespace": {namespace}}
			if len(args) == 2 {
				query.Set("type", args[1])
			}
			if from != "" {
				pod, ok := podNamed(from)
				if !ok {
					return calledWrongly(fmt.Errorf("--from %q: must be pod/NAME", from))
				}
				query.Set("pod", pod)
			}
			a, err := show(cmd, how, printer.Source[answers]{
				Get: got[answers](*dataDir, "/dns/query", query), Essence: answers.essence,
				Table: func(w io.Writer, a answers) error { return a.write(w) },
			})
			if err != nil || how.Watch {
				return err
			}
			return a.problem(args[0])
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "ask as this pod does, with its search path: pod/NAME")
	cmd.Flags().StringVarP(&namespace, flagNamespace, "n", "default", "the namespace of that pod")
	how.RegisterWatch(cmd.Flags())
	return cmd
}

// problem says that the name does not exist, and what may have been meant.
func (a answers) problem(name string) error {
	if len(a.Trips) == 0 {
		return nil
	}
	switch last := a.Trips[len(a.Trips)-1]; {
	case last.Exists():
		return nil
	case len(a.Hints) > 0:
		return fmt.Errorf("%s is answered %s: %s", name, last.Rcode, strings.Join(a.Hints, "; "))
	default:
		return fmt.Errorf("%s is answered %s", name, last.Rcode)
	}
}

// essence is the answers without what changes with every look: the time that records have left, and how long it took.
func (a answers) essence() any {
	var all [][]string
	for _, e := range a.Trips {
		trip := []string{e.Name, e.Type, e.Rcode}
		for _, record := range e.Records {
			if fields := strings.Fields(record); len(fields) > 2 {
				trip = append(trip, strings.Join(slices.Delete(fields, 1, 2), " ")) // NAME TTL CLASS TYPE DATA
			}
		}
		slices.Sort(trip[3:]) // addresses are told in another order each time
		all = append(all, trip)
	}
	return append(all, a.Hints)
}

// write prints one paragraph per trip.
func (a answers) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "asked by %s", a.Asker)
	if len(a.Searches) > 0 {
		fmt.Fprintf(&b, ", search %s", strings.Join(a.Searches, " "))
	}
	b.WriteByte('\n')
	for _, e := range a.Trips {
		fmt.Fprintf(&b, "\n%s %s: %s\n", e.Name, e.Type, e.Rcode)
		for _, record := range e.Records {
			fmt.Fprintf(&b, "    %s\n", record)
		}
		for _, why := range e.Why {
			fmt.Fprintf(&b, "  - %s\n", why)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
