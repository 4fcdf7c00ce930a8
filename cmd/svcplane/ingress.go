package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"svcplane/printer"
	"svcplane/server"
	"svcplane/server/admin"
)

func newIngress(dataDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ingress",
		Short: "Inspect where HTTP requests go",
		Example: "  svcplane ingress routes\n" +
			"  svcplane ingress explain https://shop.example/cart",
	}
	cmd.AddCommand(newIngressRoutes(dataDir), newIngressExplain(dataDir), newIngressHold())
	return cmd
}

func newIngressRoutes(dataDir *string) *cobra.Command {
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "routes [HOST]",
		Short: "Print the live routing table, in the order that rules are tried",
		Example: "  svcplane ingress routes\n" +
			"  svcplane ingress routes shop.example -o json\n" +
			"  svcplane ingress routes --watch",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: arguments(serverNames(dataDir, admin.NamesOfHosts, nil)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var r admin.RoutesRequest
			if len(args) == 1 {
				r.Host = args[0]
			}
			_, err := show(cmd, how, printer.Source[[]admin.Route]{Get: calling(admin.GetRoutes, *dataDir, r), Table: routesTable})
			return err
		},
	}
	how.RegisterWatch(cmd.Flags())
	// what -o json was called before there was -o
	cmd.Flags().BoolFunc("json", "print JSON", func(string) error { return how.Format.Set(string(printer.JSON)) })
	cmd.Flags().Lookup("json").Hidden = true
	return cmd
}

func routesTable(w io.Writer, routes []admin.Route) error {
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tab, "HOST\tTYPE\tPATH\tSERVICE\tENDPOINTS\tINGRESS")
	for _, r := range routes {
		service := strings.Join(append([]string{r.Service}, r.Canaries...), " canary ")
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Host, r.Kind, r.Path, service, endpointsText(&r), r.Origin)
	}
	return tab.Flush()
}

func endpointsText(r *admin.Route) string {
	if len(r.Closed) > 0 {
		return "closed, 503: " + strings.Join(r.Closed, "; ")
	}
	if len(r.Endpoints) == 0 {
		if r.Problem != "" {
			return "none: " + r.Problem
		}
		return "none is ready"
	}
	var texts []string
	for _, e := range r.Endpoints[:min(3, len(r.Endpoints))] {
		texts = append(texts, e.String())
	}
	if more := len(r.Endpoints) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, " ")
}

func newIngressExplain(dataDir *string) *cobra.Command {
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Explain which rule takes a URL, and why the others do not; exit 1 if none does",
		Example: "  svcplane ingress explain https://shop.example/cart\n" +
			"  svcplane ingress explain shop.example/cart -o yaml",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: arguments(hostURLs(dataDir)),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := args[0]
			if !strings.Contains(text, "://") {
				text = "http://" + text
			}
			if _, err := url.Parse(text); err != nil {
				return admin.Blame(fmt.Errorf("%q is no URL: %w", args[0], err))
			}
			d, err := show(cmd, how, printer.Source[urlDocument]{
				Get:   as(calling(admin.ExplainURL, *dataDir, admin.ExplainRequest{To: args[0]}), urlDocumentOf),
				Table: func(w io.Writer, d urlDocument) error { return d.write(w) },
			})
			if err != nil {
				return err
			}
			return d.problem()
		},
	}
	how.Register(cmd.Flags())
	return cmd
}

// ingressOptions are the flags of the ingress beyond where it listens.
type ingressOptions struct {
	Trusted, Classes []string
	MaxConns, Client int
	MinRate          int
	Log, LogFormat   string
	Sample           float64
	Handover         time.Duration
}

func (o *ingressOptions) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.Trusted, "ingress-trusted-proxies", nil, "address ranges of the proxies in front of the ingress, whose X-Forwarded-* headers and PROXY protocol are believed")
	fs.StringSliceVar(&o.Classes, "ingress-classes", server.DefaultIngressClasses(), "classes of Ingresses that are served unless an IngressClass of that name exists, which may be another controller's")
	fs.IntVar(&o.MaxConns, "ingress-max-connections", server.IngressMaxConns, "how many connections clients may have open, as far as the limit of open files (ulimit -n) allows; further ones are answered 503")
	fs.IntVar(&o.Client, "ingress-max-connections-per-client", 0, "the same for one client address (default: half of all)")
	fs.IntVar(&o.MinRate, "ingress-min-rate", 240,
		"bytes a second that a client must send of a request's body, and take of an answer, while the ingress waits for it, on average once 5s have passed; 0: any rate")
	fs.StringVar(&o.Log, "ingress-access-log", "", "file that gets a line for each request; - is standard output, empty is none")
	fs.StringVar(&o.LogFormat, "ingress-access-log-format", "json", "format of the access log: json or combined")
	fs.Float64Var(&o.Sample, "ingress-access-log-sample", 1, "share of requests that are logged, above 0 and up to 1")
	fs.DurationVar(&o.Handover, "ingress-handover", 20*time.Second, "how long after the end of the server connections wait for its next start, instead of being refused; 0: they do not wait")
}

func (o *ingressOptions) check(all *server.Config) error {
	c := server.IngressConfig{
		Classes: append([]string{}, o.Classes...), MaxConns: o.MaxConns, PerClient: o.Client, MinRate: o.MinRate,
		Log: o.Log, LogFormat: o.LogFormat, LogSample: o.Sample, Handover: o.Handover,
	}
	for _, text := range o.Trusted {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return fmt.Errorf("--ingress-trusted-proxies %q: must be ranges with zeros behind their prefix, like 10.0.0.0/8", text)
		}
		c.Trusted = append(c.Trusted, p)
	}
	for _, name := range o.Classes {
		if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
			return fmt.Errorf("--ingress-classes %q: must be names of classes, like nginx", name)
		}
	}
	if c.MaxConns < 1 || c.PerClient < 0 {
		return errors.New("--ingress-max-connections: must be at least 1")
	}
	if c.MinRate < 0 {
		return errors.New("--ingress-min-rate: must be 0 or more octets a second")
	}
	if c.Handover < 0 || c.Handover > 10*time.Minute {
		return fmt.Errorf("--ingress-handover %v: must be at most 10m", c.Handover)
	}
	if c.LogSample <= 0 || c.LogSample > 1 {
		return fmt.Errorf("--ingress-access-log-sample %v: must be above 0 and at most 1", c.LogSample)
	}
	if !slices.Contains(server.AccessLogFormats, c.LogFormat) {
		return fmt.Errorf("--ingress-access-log-format %q: must be json or combined", o.LogFormat)
	}
	all.Ingress = c
	return nil
}

// newIngressHold is what a server that ends starts, so that connections to the ingress wait for the next one.
func newIngressHold() *cobra.Command {
	return &cobra.Command{
		Use:    "hold NAME FOR COUNT",
		Hidden: true,
		Args:   cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return server.KeepSockets(cmd.Context(), args, cmd.OutOrStdout())
		},
	}
}
