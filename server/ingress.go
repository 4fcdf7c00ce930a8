package server

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/metrics/legacyregistry"

	"svcplane/address"
	"svcplane/ingress"
	"svcplane/ingress/listen"
	"svcplane/ingress/serve"
	"svcplane/server/admin"
)

// What of package ingress is used, is used in this file.

// DefaultIngressClasses are the usual IngressConfig.Classes.
func DefaultIngressClasses() []string { return ingress.DefaultClassNames() }

// AccessLogFormats are the values of IngressConfig.LogFormat.
var AccessLogFormats = []string{string(serve.LogJSON), string(serve.LogCombined)}

// openLog opens the access log for appending; nil when there is to be none.
func (c *IngressConfig) openLog() (*logFile, error) {
	switch c.Log {
	case "":
		return nil, nil
	case "-":
		return &logFile{file: os.Stdout}, nil
	}
	f, err := openLogFile(c.Log)
	if err != nil {
		return nil, fmt.Errorf("--ingress-access-log: %w", err)
	}
	return f, nil
}

func (n *Node) addIngress() error {
	o := &n.cfg.Ingress
	cfg := ingress.Config{
		Client: n.access.Client, Factory: n.access.Informers, Catalog: n.services,
		HTTP: n.cfg.HTTP, HTTPS: n.cfg.HTTPS, Addresses: n.addresses.State().Node,
		NodeName: n.cfg.NodeName, Recorder: n.access.recorder("svcplane-ingress", n.cfg.NodeName),
		ClassNames: o.Classes, TrustedProxies: o.Trusted, MaxConnections: min(o.MaxConns, n.shares.IngressClients()), MaxPerClient: o.PerClient,
		MaxEndpointConnections: n.shares.IngressEndpoints(), MinRate: o.MinRate,
		AccessLogFormat: serve.LogFormat(o.LogFormat), AccessLogSample: o.LogSample, Inherited: n.inherited,
	}
	if o.Handover > 0 {
		cfg.Keep = keepSockets(listen.HolderName(n.cfg.HTTP, n.cfg.HTTPS), o.Handover)
	}
	log, err := o.openLog()
	if err != nil {
		return err
	}
	if log != nil {
		cfg.AccessLog, n.accessLog = log, log
	}
	i, err := ingress.New(cfg)
	if err != nil {
		return err
	}
	if err := legacyregistry.Registerer().Register(i.Collector()); err != nil {
		return fmt.Errorf("registering the metrics of the ingress: %w", err)
	}
	n.handlers = append(n.handlers, func(a *admin.Server) { n.handleIngress(a, i) })
	n.add(PartIngress, i)
	n.addresses.Follow("the statuses of Ingresses", func(_ context.Context, now address.State) error {
		i.SetAddresses(now.Node)
		return nil
	})
	return nil
}

// handleIngress carries out what `svcplane ingress` asks for.
func (n *Node) handleIngress(a *admin.Server, i *ingress.Ingress) {
	admin.GetRoutes.Handle(a, func(ctx context.Context, r admin.RoutesRequest) ([]admin.Route, error) {
		routes := []admin.Route{}
		for _, info := range i.Routes() {
			if r.Host == "" || info.Host == r.Host {
				routes = append(routes, routeOf(info))
			}
		}
		if r.Host != "" && len(routes) == 0 {
			return nil, fmt.Errorf("no rule is for host %s: %s", r.Host, cmp.Or(n.hints.otherHost(ctx, r.Host), "see svcplane ingress routes"))
		}
		return routes, nil
	})
	admin.ExplainURL.Handle(a, func(ctx context.Context, r admin.ExplainRequest) (admin.Explanation, error) {
		return n.explainURL(ctx, i, r.To)
	})
}

func routeOf(r ingress.RouteInfo) admin.Route {
	return admin.Route{
		Host: r.Host, Path: r.Path, Kind: string(r.Kind), When: r.When, Service: r.Service, Endpoints: r.Endpoints, Problem: r.Problem,
		Origin:   admin.Origin{Kind: r.Origin.Kind, Namespace: r.Origin.Namespace, Name: r.Origin.Name, Created: r.Origin.Created},
		Canaries: r.Canaries, Closed: r.Closed,
	}
}

func (n *Node) explainURL(ctx context.Context, i *ingress.Ingress, url string) (admin.Explanation, error) {
	e, err := i.Explain(url)
	if err != nil {
		return admin.Explanation{}, err
	}
	x := admin.Explanation{Part: PartIngress, To: e.Host + e.Path, Outcome: "404", Steps: slices.Concat(
		admin.Sentences(admin.StepRule, e.Steps), admin.Sentences(admin.StepUnserved, e.NotServed), admin.Sentences(admin.StepPolicy, e.Policies),
	)}
	if e.Route == nil {
		if hint := n.hints.otherHost(ctx, e.Host); hint != "" {
			x.Hints = []string{hint}
		}
		return x, nil
	}
	route := routeOf(*e.Route)
	x.Route, x.Outcome = &route, route.Service
	if len(route.Closed) > 0 {
		x.Outcome = "503"
	}
	service, _, _ := strings.Cut(route.Service, ":")
	x.Mistakes, err = n.hints.mistakes(ctx, serviceKey(service, metav1.NamespaceDefault))
	return x, err
}

// keepSockets starts a process that keeps the ingress's listening sockets until the next start, or for a while, so
// that connections wait instead of being refused.
func keepSockets(name string, limit time.Duration) func([]*os.File) error {
	return func(sockets []*os.File) error {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding the program that keeps the sockets: %w", err)
		}
		cmd := exec.Command(exe, slices.Concat(keepCommand, []string{name, limit.String(), strconv.Itoa(len(sockets))})...)
		cmd.ExtraFiles = sockets
		// a session of its own: what ends this process's group is not meant for it
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return fmt.Errorf("starting the process that keeps the sockets: %w", err)
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("starting the process that keeps the sockets: %w", err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			return errors.Join(fmt.Errorf("the process that keeps the sockets did not start: %w", err), cmd.Wait())
		}
		return cmd.Process.Release()
	}
}

// keepCommand are the words that call KeepSockets; its arguments follow.
var keepCommand = []string{"ingress", "hold"}

// KeepSockets is the process that keepSockets starts: args are the name of the sockets, for how long, and how many.
func KeepSockets(ctx context.Context, args []string, out io.Writer) error {
	limit, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	var sockets []*os.File
	for i := range count {
		sockets = append(sockets, os.NewFile(uintptr(3+i), "socket")) // where exec.Cmd.ExtraFiles begin
	}
	var s signals
	defer s.outlive()()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return listen.Hold(ctx, args[0], sockets, func() { fmt.Fprintln(out, "holding") })
}

// takeSockets gets the listening sockets of an ingress that was stopped a moment ago on the same addresses.
func takeSockets(cfg *Config) ([]net.Listener, error) {
	if !cfg.Enabled(PartIngress) {
		return nil, nil
	}
	return listen.Take(listen.HolderName(cfg.HTTP, cfg.HTTPS))
}

// dropSockets ends the processes that keep sockets, at whatever addresses.
func dropSockets() error {
	names, err := holders()
	if err != nil {
		return err
	}
	return dropKept(names)
}

// freePort ends the processes that keep sockets of a port, and says whether there was one: they wait for a start that did
// not come, since this one has other addresses than the last.
func freePort(port uint16) (bool, error) {
	names, err := holders()
	if err != nil {
		return false, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !listen.HolderKeeps(name, port) })
	return len(names) > 0, dropKept(names)
}

func dropKept(names []string) error {
	var errs []error
	for _, name := range names {
		sockets, err := listen.Take(name)
		errs = append(errs, err)
		for _, l := range sockets {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// holders are the names under which sockets are kept in this network namespace.
func holders() ([]string, error) {
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := listen.HolderIn(lines.Text()); ok {
			names = append(names, name)
		}
	}
	return names, nil
}
