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

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// options are the flags of every subcommand; each uses what it needs.
type options struct {
	kubeconfig string
	services   int
	dir        string
	addr       netip.AddrPort // to serve on, or the server to ask
	peer       netip.AddrPort
	upstream   netip.AddrPort
	rate       int
	seconds    int
	rounds     int
	file       string
}

var commands = map[string]func(context.Context, options) error{
	"serve": serve, "fill": fill, "questions": questions, "world": world, "probe": probe, "first": first, "churn": churn, "diff": diff,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/dns:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || commands[args[0]] == nil {
		return errors.New("give one of: serve, fill, questions, world, probe, first, churn, diff; bench.sh knows how")
	}
	var o options
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "of the API server")
	fs.IntVar(&o.services, "services", 1000, "how many the cluster has")
	fs.StringVar(&o.dir, "dir", ".", "where the files of questions go")
	fs.TextVar(&o.addr, "addr", netip.AddrPort{}, "to serve on, or to ask")
	fs.TextVar(&o.peer, "peer", netip.AddrPort{}, "CoreDNS")
	fs.TextVar(&o.upstream, "upstream", netip.AddrPort{}, "whom to forward to")
	fs.IntVar(&o.rate, "rate", 500, "questions per second")
	fs.IntVar(&o.seconds, "seconds", 10, "how long")
	fs.IntVar(&o.rounds, "rounds", 10, "how often")
	fs.StringVar(&o.file, "file", "", "of questions, as dnsperf reads it")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	return commands[args[0]](ctx, o)
}

// client makes a client that is not slowed down.
func (o options) client() (kubernetes.Interface, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", o.kubeconfig, err)
	}
	cfg.QPS = -1
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = strings.Join([]string{cfg.ContentType, "application/json"}, ",")
	return kubernetes.NewForConfig(cfg)
}
