package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/component-base/metrics/legacyregistry"

	"svcplane/address"
	"svcplane/catalog"
	"svcplane/diagnose"
	"svcplane/ingress"
	"svcplane/printer"
)

func newIngress(dataDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ingress",
		Short: "Look at where HTTP requests go",
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
		ValidArgsFunction: arguments(serverNames(dataDir, kindHosts, nil)),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if len(args) == 1 {
				query.Set("host", args[0])
			}
			_, err := show(cmd, how, printer.Source[[]ingress.RouteInfo]{
				Get: got[[]ingress.RouteInfo](*dataDir, "/ingress/routes", query), Table: routesTable,
			})
			return err
		},
	}
	how.RegisterWatch(cmd.Flags())
	// what -o json was called before there was -o
	cmd.Flags().BoolFunc("json", "print JSON", func(string) error { return how.Format.Set(string(printer.JSON)) })
	cmd.Flags().Lookup("json").Hidden = true
	return cmd
}

func routesTable(w io.Writer, routes []ingress.RouteInfo) error {
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tab, "HOST\tTYPE\tPATH\tSERVICE\tENDPOINTS\tINGRESS")
	for _, r := range routes {
		service := strings.Join(append([]string{r.Service}, r.Canaries...), " canary ")
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Host, r.Kind, r.Path, service, endpointsText(&r), r.Origin)
	}
	return tab.Flush()
}

func endpointsText(r *ingress.RouteInfo) string {
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
		Short: "Say which rule takes a URL and why the others do not; exit 1 if none does",
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
				return calledWrongly(fmt.Errorf("%q is no URL: %w", args[0], err))
			}
			e, err := show(cmd, how, printer.Source[ingressExplanation]{
				Get: got[ingressExplanation](*dataDir, "/ingress/explain", url.Values{"url": args}), Table: ingressExplained,
			})
			if err != nil || e.Route != nil {
				return err
			}
			if e.Hint != "" {
				e.Hint = ": " + e.Hint
			}
			return errors.New("no rule takes it: it is answered 404" + e.Hint)
		},
	}
	how.Register(cmd.Flags())
	return cmd
}

func ingressExplained(w io.Writer, e ingressExplanation) error {
	var b strings.Builder
	fmt.Fprintf(&b, "host %s, path %s\n", e.Host, e.Path)
	for _, s := range slices.Concat(e.Steps, e.NotServed) {
		fmt.Fprintln(&b, "  "+s)
	}
	for _, p := range e.Policies {
		fmt.Fprintln(&b, "policy: "+p)
	}
	switch {
	case e.Route == nil:
	case len(e.Route.Closed) > 0:
		fmt.Fprintf(&b, "answered 503 for ingress %s, which is closed\n", e.Route.Origin)
	default:
		fmt.Fprintf(&b, "answered by %s (%s) for ingress %s\n", e.Route.Service, endpointsText(e.Route), e.Route.Origin)
	}
	for _, mistake := range e.Mistakes {
		fmt.Fprintln(&b, "  ! "+mistake)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ingressExplanation is what `svcplane ingress explain` shows.
type ingressExplanation struct {
	ingress.Explanation
	Mistakes []string `json:"mistakes,omitempty"` // what is wrong with the route's Service
	Hint     string   `json:"hint,omitempty"`     // the host that may be meant, if no rule is for this one
}

func (h *house) explainURL(ctx context.Context, i *ingress.Ingress, url string) (any, error) {
	e, err := i.Explain(url)
	if err != nil {
		return nil, err
	}
	if e.Route == nil {
		return ingressExplanation{Explanation: e, Hint: h.otherHost(ctx, e.Host)}, nil
	}
	service, _, _ := strings.Cut(e.Route.Service, ":")
	wrong, err := h.mistakes(ctx, serviceKey(service, metav1.NamespaceDefault))
	return ingressExplanation{Explanation: e, Mistakes: wrong}, err
}

// otherHost says which host of an Ingress may have been meant; empty if that host is named, or nothing is near.
func (h *house) otherHost(ctx context.Context, host string) string {
	hosts, _ := h.names(ctx, kindHosts, "") // without them there is no hint
	if slices.Contains(hosts, host) {
		return ""
	}
	return strings.TrimPrefix(diagnose.Hint(host, hosts), ": ")
}

// adminIngress answers the commands above and adds the figures to the metrics.
func (h *house) adminIngress(i *ingress.Ingress) error {
	a := h.admin
	a.handle("GET /ingress/routes", func(r *http.Request) (any, error) {
		host := r.URL.Query().Get("host")
		routes := []ingress.RouteInfo{}
		for _, info := range i.Routes() {
			if host == "" || info.Host == host {
				routes = append(routes, info)
			}
		}
		if host != "" && len(routes) == 0 {
			return nil, fmt.Errorf("no rule is for host %s: %s", host, cmp.Or(h.otherHost(r.Context(), host), "see svcplane ingress routes"))
		}
		return routes, nil
	})
	a.handle("GET /ingress/explain", func(r *http.Request) (any, error) { return h.explainURL(r.Context(), i, r.URL.Query().Get("url")) })
	if err := legacyregistry.Registerer().Register(i.Collector()); err != nil {
		return fmt.Errorf("registering the metrics of the ingress: %w", err)
	}
	return nil
}

// ingressMaxConns is the default of --ingress-max-connections.
const ingressMaxConns = 16384

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
	fs.StringSliceVar(&o.Trusted, "ingress-trusted-proxies", nil, "networks of proxies in front of the ingress, whose X-Forwarded-* and PROXY protocol are believed")
	fs.StringSliceVar(&o.Classes, "ingress-classes", ingress.DefaultClassNames(), "classes of Ingresses that are served as long as no IngressClass of that name exists, which may be another controller's")
	fs.IntVar(&o.MaxConns, "ingress-max-connections", ingressMaxConns, "open connections of clients, as far as the limit of open files (ulimit -n) allows; more are answered 503")
	fs.IntVar(&o.Client, "ingress-max-connections-per-client", 0, "the same for one address (default: half of all)")
	fs.IntVar(&o.MinRate, "ingress-min-rate", 240,
		"octets a second that a client must send of a request's body and take of an answer while it is waited for, on average and after 5s; 0: any number")
	fs.StringVar(&o.Log, "ingress-access-log", "", "file for a line per request; - is stdout, empty none")
	fs.StringVar(&o.LogFormat, "ingress-access-log-format", "json", "json or combined")
	fs.Float64Var(&o.Sample, "ingress-access-log-sample", 1, "share of the requests that are logged, above 0 and up to 1")
	fs.DurationVar(&o.Handover, "ingress-handover", 20*time.Second, "how long after its end connections wait for the next start instead of being refused; 0: not at all")
}

// ingressConfig is the checked form of ingressOptions.
type ingressConfig struct {
	trusted          []netip.Prefix
	classes          []string
	maxConns, client int
	minRate          int
	log              string
	format           ingress.LogFormat
	sample           float64
	handover         time.Duration
}

func (o *ingressOptions) check() (ingressConfig, error) {
	c := ingressConfig{classes: append([]string{}, o.Classes...), maxConns: o.MaxConns, client: o.Client, minRate: o.MinRate, log: o.Log, format: ingress.LogFormat(o.LogFormat), sample: o.Sample, handover: o.Handover}
	for _, text := range o.Trusted {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return c, fmt.Errorf("--ingress-trusted-proxies %q: must be ranges with zeros behind their prefix, like 10.0.0.0/8", text)
		}
		c.trusted = append(c.trusted, p)
	}
	for _, name := range o.Classes {
		if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
			return c, fmt.Errorf("--ingress-classes %q: must be names of classes, like nginx", name)
		}
	}
	if c.maxConns < 1 || c.client < 0 {
		return c, errors.New("--ingress-max-connections: must be at least 1")
	}
	if c.minRate < 0 {
		return c, errors.New("--ingress-min-rate: must be 0 or more octets a second")
	}
	if c.handover < 0 || c.handover > 10*time.Minute {
		return c, fmt.Errorf("--ingress-handover %v: must be at most 10m", c.handover)
	}
	if c.sample <= 0 || c.sample > 1 {
		return c, fmt.Errorf("--ingress-access-log-sample %v: must be above 0 and at most 1", c.sample)
	}
	if c.format != ingress.LogJSON && c.format != ingress.LogCombined {
		return c, fmt.Errorf("--ingress-access-log-format %q: must be json or combined", o.LogFormat)
	}
	return c, nil
}

// openLog opens the access log for appending; nil when there is to be none.
func (c *ingressConfig) openLog() (*logFile, error) {
	switch c.log {
	case "":
		return nil, nil
	case "-":
		return &logFile{file: os.Stdout}, nil
	}
	f, err := openLogFile(c.log)
	if err != nil {
		return nil, fmt.Errorf("--ingress-access-log: %w", err)
	}
	return f, nil
}

func (h *house) addIngress(services *catalog.Catalog, held []net.Listener) error {
	o := &h.cfg.Ingress
	cfg := ingress.Config{
		Client: h.client, Factory: h.api.Informers(), Catalog: services,
		HTTP: h.cfg.HTTP, HTTPS: h.cfg.HTTPS, Addresses: h.addresses.State().Node,
		NodeName: h.cfg.NodeName, Recorder: h.recorder("svcplane-ingress"),
		ClassNames: o.classes, TrustedProxies: o.trusted, MaxConnections: min(o.maxConns, h.shares.IngressClients()), MaxPerClient: o.client,
		MaxEndpointConnections: h.shares.IngressEndpoints(), MinRate: o.minRate,
		AccessLogFormat: o.format, AccessLogSample: o.sample, Inherited: held,
	}
	if o.handover > 0 {
		cfg.Keep = keepSockets(ingress.HolderName(h.cfg.HTTP, h.cfg.HTTPS), o.handover)
	}
	log, err := o.openLog()
	if err != nil {
		return err
	}
	if log != nil {
		cfg.AccessLog, h.accessLog = log, log
	}
	i, err := ingress.New(cfg)
	if err != nil {
		return err
	}
	if err := h.adminIngress(i); err != nil {
		return err
	}
	h.add("ingress", i)
	h.addresses.Follow("the statuses of Ingresses", func(_ context.Context, now address.State) error {
		i.SetAddresses(now.Node)
		return nil
	})
	return nil
}
