package main

import (
	"context"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"svcplane/server"
	"svcplane/server/admin"
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
					return admin.Blame(err)
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
			process := server.Process{DataDir: opts.DataDir, Verbosity: opts.Verbosity, Out: cmd.OutOrStdout(), Configure: opts.checkCall}
			return process.Run(ctx)
		},
	}
	opts.register(cmd.Flags())
	cmd.Flags().StringVar(&configFile, "config", "", "YAML file whose keys are these flags; the command line wins")
	cmd.Flags().BoolVar(&checkOnly, "check", false, "only check the flags and the config file")
	return cmd
}

// checkFlags is what a start checks before it takes anything of the machine.
func checkFlags(opts *Options) error {
	host, err := server.ReadHost(opts.DataDir)
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
