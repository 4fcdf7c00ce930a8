package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"svcplane/server"
	"svcplane/server/admin"
)

func newProxySwitch(dataDir *string) *cobra.Command {
	var drain time.Duration
	var detach bool
	cmd := &cobra.Command{
		Use:   "switch iptables|ebpf",
		Short: "Replace the data plane that serves by the other one; no connection breaks",
		Example: "  svcplane proxy switch ebpf\n" +
			"  svcplane proxy switch iptables --drain-timeout 5m --detach",
		Long: "Replace the data plane that serves by the other one. The new one is built beside the old one and tested, then takes new " +
			"connections; connections of the old one stay with it until they end, or until --drain-timeout, and then the old one is removed. " +
			"The command prints how far the switch is; interrupting the command does not interrupt the switch. Until the old one is removed, " +
			"a switch back is possible at any moment. The choice survives a restart, until --proxy-mode of the server is changed.",
		ValidArgsFunction: arguments(oneOf(server.ModeEBPF, server.ModeIPTables)),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] != server.ModeIPTables && args[0] != server.ModeEBPF {
				return admin.Blame(fmt.Errorf("%q: say which data plane is to serve: iptables or ebpf", args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r := admin.SwitchRequest{Mode: args[0]}
			if cmd.Flags().Changed("drain-timeout") {
				r.Drain = drain.String()
			}
			now, err := admin.SwitchTo.Call(cmd.Context(), *dataDir, r)
			if err != nil {
				return err
			}
			return watchSwitch(cmd.Context(), *dataDir, cmd.OutOrStdout(), now, detach)
		},
	}
	cmd.Flags().DurationVar(&drain, "drain-timeout", 0, "how long connections may stay with the old data plane (default: --proxy-drain-timeout of the server)")
	cmd.Flags().BoolVar(&detach, "detach", false, "return as soon as the new data plane takes connections; svcplane status shows the rest")
	return cmd
}

// watchPeriod is the time between two looks at a switch.
const watchPeriod = 200 * time.Millisecond

// watchSwitch prints each change until the old data plane is gone.
func watchSwitch(ctx context.Context, dataDir string, out io.Writer, now admin.Switchover, detach bool) error {
	mode := now.Serving
	for last := ""; ; {
		if line := now.Line; line != last {
			fmt.Fprintln(out, line)
			last = line
		}
		if now.Serving != mode {
			return fmt.Errorf("%s serves again: %s", now.Serving, now.Problem)
		}
		if detach || now.Over {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(watchPeriod):
		}
		var err error
		if now, err = admin.GetSwitch.Call(ctx, dataDir, admin.None{}); err != nil {
			return err
		}
	}
}
