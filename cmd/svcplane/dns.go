package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"svcplane/dns"
	"svcplane/printer"
	"svcplane/server"
	"svcplane/server/admin"
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
	fs.StringSliceVar(&o.Upstream, "dns-upstream", nil, "servers for names outside of the cluster, address or address:port (default: those in /etc/resolv.conf, also when it changes)")
	fs.StringSliceVar(&o.Stub, "dns-stub", nil, "domain=address[:port]: the server for the names below a domain; may be given several times, also for one domain")
	fs.StringSliceVar(&o.Alias, "dns-alias-domain", nil, "further domains below which every Service has its names")
	fs.DurationVar(&o.TTL, "dns-ttl", 5*time.Second, "TTL of the cluster's names, in whole seconds")
	fs.IntVar(&o.CacheMB, "dns-cache-mb", 8, "megabytes of memory for the answers of upstream servers")
	fs.BoolVar(&o.Autopath, "dns-autopath", true, "answer the first name of a pod's search path with the result of the whole path; a namespace opts out by the annotation "+dns.AutopathAnnotation+": disabled")
	fs.StringVar(&o.LANDomain, "dns-lan-domain", "", "answer on --node-ip, too: SERVICE.NAMESPACE.DOMAIN for LoadBalancer Services, and the hosts of Ingresses")
	fs.StringSliceVar(&o.Allow, "dns-allow", nil, "address ranges outside of this node whose clients may ask for every name (default: none)")
	fs.StringSliceVar(&o.Transfer, "dns-axfr", nil, "address ranges whose clients may transfer the zone (default: none)")
	fs.IntVar(&o.ReplyLimit, "dns-reply-limit", 64<<10, "bytes of UDP answers a second for each /24 (IPv6: /56) outside of this node, so that the node is no amplifier; clients get further answers over TCP")
	fs.IntVar(&o.LogEvery, "dns-log-every", 0, "log every n-th question; 0 logs none")
	fs.StringVar(&o.HTTP, "dns-http", "", "address:port of /health and /ready of the name server (default: they are on the admin socket only, below /dns)")
}

// check turns the flags into what people choose of the name server.
func (o *dnsOptions) check(c *server.Config) error {
	d := dns.Config{
		Aliases: o.Alias, TTL: o.TTL, CacheSize: o.CacheMB << 20, NoAutopath: !o.Autopath, ReplyLimit: o.ReplyLimit, LogEvery: o.LogEvery,
		Clients: []netip.Prefix{}, LANDomain: o.LANDomain,
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
	c.DNS = d
	return errors.Join(errors.Join(failed...), o.checkNumbers())
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
		return netip.AddrPortFrom(addr.Unmap(), 53), nil
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 {
		return netip.AddrPort{}, errors.New("must be an address like 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:5353")
	}
	return at, nil
}

func newDNS(dataDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dns",
		Short:   "Inspect the answers of the name server",
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
		Short: "Ask the name server for a name, and explain the answer: which record, which rule, which upstream; exit 1 if it does not exist",
		Example: "  svcplane dns query web.shop.svc.cluster.local\n" +
			"  svcplane dns query web SRV --from pod/client -n shop\n" +
			"  svcplane dns query web.shop.svc.cluster.local --watch",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: arguments(serverNames(dataDir, admin.NamesOfDNS, nil), oneOf(dns.Types...)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, ok := admin.PodNamed(from); from != "" && !ok {
				return admin.Blame(fmt.Errorf("--from %q: must be pod/NAME", from))
			}
			r := admin.ExplainRequest{To: args[0], Type: "A", From: from, Namespace: namespace}
			if len(args) == 2 {
				r.Type = args[1]
			}
			d, err := show(cmd, how, printer.Source[nameDocument]{
				Get: as(calling(admin.ExplainName, *dataDir, r), nameDocumentOf), Essence: nameDocument.essence,
				Table: func(w io.Writer, d nameDocument) error { return d.write(w) },
			})
			if err != nil || how.Watch {
				return err
			}
			return d.problem(args[0])
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "ask as this pod does, with its search path: pod/NAME (default: as the node)")
	cmd.Flags().StringVarP(&namespace, flagNamespace, "n", "default", "the namespace of that pod")
	how.RegisterWatch(cmd.Flags())
	return cmd
}
