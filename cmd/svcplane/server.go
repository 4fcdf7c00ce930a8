package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"svcplane/systemd"
)

func newServer(dataDir *string) *cobra.Command {
	var opts Options
	var configFile string
	var checkOnly bool
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run everything: store, API, controllers, node, proxy, DNS, ingress",
		Example: "  svcplane server\n" +
			"  svcplane server --proxy-mode iptables --ingress-http 192.0.2.1:8080\n" +
			"  svcplane server --config /etc/svcplane/config.yaml\n" +
			"  svcplane server --config /etc/svcplane/config.yaml --check",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if configFile != "" {
				if err := loadFile(configFile, serverFlags(cmd)); err != nil {
					return calledWrongly(err)
				}
			}
			opts.DataDir = *dataDir
			if checkOnly {
				return checkFlags(&opts)
			}
			// only here: the other commands, kubectl above all, end at a signal as any program does
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends what does not want to end
			around := surroundings{out: cmd.OutOrStdout(), manager: systemd.Take()}
			defer around.signals.outlive()()
			err := runServer(ctx, &opts, &around)
			var restart *again
			if errors.As(err, &restart) {
				return beginAgain(around.manager.Environ())
			}
			return err
		},
	}
	opts.register(cmd.Flags())
	cmd.Flags().StringVar(&configFile, "config", "", "YAML file with these flags as keys; the command line wins")
	cmd.Flags().BoolVar(&checkOnly, "check", false, "only see whether the flags and the config file are right")
	return cmd
}

// checkFlags is what a start checks before it takes anything of the machine.
func checkFlags(opts *Options) error {
	host, err := readHost(opts.DataDir)
	if err != nil {
		return err
	}
	_, err = opts.checkCall(host)
	return err
}

// serverFlags are the command's own flags and those it inherits: what a config file may set.
func serverFlags(cmd *cobra.Command) *pflag.FlagSet {
	fs := pflag.NewFlagSet("server", pflag.ContinueOnError)
	fs.AddFlagSet(cmd.LocalFlags())
	fs.AddFlagSet(cmd.InheritedFlags())
	return fs
}

// surroundings are what the server hears from and tells, beyond its listeners.
type surroundings struct {
	out     io.Writer // gets the ready line
	signals signals
	manager *systemd.Manager
}

// startAborts is how long a start that is asked to stop may take to come to a place where it can.
const startAborts = 10 * time.Second

// runServer serves until ctx ends. A start may be in a call that nothing interrupts, a disk that does not answer or a lock
// that somebody else has: it is left behind then.
func runServer(ctx context.Context, opts *Options, around *surroundings) error {
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- serve(ctx, opts, ready, around) }()
	defer context.AfterFunc(ctx, func() { around.manager.Tell(systemd.Stopping, systemd.Status("stopping")) })()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case <-ready:
		return <-ended
	case err := <-ended:
		return err
	case <-time.After(startAborts):
		return nil
	}
}

// serve checks everything that can be checked, takes what it needs of the machine, runs until ctx ends
// and stops in the reverse order. Until the checks have passed nothing on the machine is changed.
func serve(ctx context.Context, opts *Options, ready chan<- struct{}, around *surroundings) (err error) {
	began := time.Now()
	log := setUpLogging(opts.Verbosity)
	slow := time.AfterFunc(slowStart, log.reveal)
	defer slow.Stop()
	if os.Geteuid() != 0 {
		return errors.New("server must run as root: it makes network namespaces and links: use sudo")
	}
	host, err := readHost(opts.DataDir)
	if err != nil {
		return err
	}
	cfg, err := opts.checkCall(host)
	if err != nil {
		return err
	}
	claims, err := claim(ctx, cfg, host)
	if err != nil {
		return err
	}
	stopped := true
	defer func() {
		if stopped { // else the API would take the end of its listener for a fault
			claims.release()
		}
	}()
	h, err := build(ctx, cfg, claims)
	if err != nil && ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return tellSpace(cfg.DataDir, err)
	}
	defer func() { stopped = h.stop() }()
	around.signals.onHangup(h.reopenLogs)
	if err := h.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while starting
		}
		log.spill()
		return err
	}
	close(ready)
	slow.Stop()
	log.open()
	defer log.close()
	go settle(ctx)
	h.tellShares()
	if _, err := fmt.Fprintf(around.out, "svcplane ready in %d ms (%s)\n", time.Since(began).Milliseconds(), h.summary()); err != nil {
		klog.ErrorS(err, "The ready line could not be printed: whoever started the server does not read it") // others are served
	}
	around.manager.Tell(systemd.Ready, systemd.Status("serving: "+h.summary()))
	defer h.keepTelling(ctx, around.manager)()
	return h.parts.wait(ctx)
}
