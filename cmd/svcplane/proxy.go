package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"svcplane/printer"
	"svcplane/server/admin"
)

func newProxy(dataDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Inspect the Service proxy, and switch its data plane",
		Example: "  svcplane proxy show\n" +
			"  svcplane proxy explain web:80 --from pod/client\n" +
			"  svcplane proxy switch ebpf",
	}
	cmd.AddCommand(newProxyShow(dataDir), newProxyExplain(dataDir), newProxyDiff(dataDir), newProxyCounters(dataDir), newProxySwitch(dataDir))
	return cmd
}

func newProxyShow(dataDir *string) *cobra.Command {
	var kernel bool
	var namespace string
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "show [[NAMESPACE/]SERVICE]",
		Short: "Print every address that Services answer on, and where it leads",
		Example: "  svcplane proxy show\n" +
			"  svcplane proxy show shop/web --kernel\n" +
			"  svcplane proxy show -o json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: arguments(serviceNames(dataDir)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := admin.TableRequest{Kernel: kernel}
			if len(args) == 1 {
				r.Service = inNamespace(args[0], namespace)
			}
			_, err := show(cmd, how, printer.Source[admin.Table]{
				Get:   calling(admin.GetTable, *dataDir, r),
				Table: frontendsTable,
			})
			return err
		},
	}
	cmd.Flags().StringVarP(&namespace, flagNamespace, "n", "default", "the namespace of that Service")
	cmd.Flags().BoolVar(&kernel, "kernel", false, "print what the kernel's rules or maps say, instead of what they were given")
	how.RegisterWatch(cmd.Flags())
	return cmd
}

func newProxyDiff(dataDir *string) *cobra.Command {
	var repair bool
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "Compare what the kernel does with what the Services want; print nothing when they agree",
		Example: "  svcplane proxy diff\n" +
			"  svcplane proxy diff --repair",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			method := admin.GetDiff
			if repair {
				method = admin.Repair
			}
			lines, err := show(cmd, how, printer.Source[[]string]{
				Get: calling(method, *dataDir, admin.None{}),
				Table: func(w io.Writer, lines []string) error {
					_, err := io.WriteString(w, strings.Join(append(lines, ""), "\n"))
					return err
				},
			})
			if err != nil {
				return err
			}
			if len(lines) > 0 && !repair {
				return fmt.Errorf("the kernel differs in %d lines: `svcplane proxy diff --repair` puts it right at once", len(lines))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "repair the differences, and print what they were")
	how.Register(cmd.Flags())
	return cmd
}

func newProxyCounters(dataDir *string) *cobra.Command {
	var on, off bool
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "counters",
		Short: "Print connections, packets and bytes by Service and endpoint",
		Example: "  svcplane proxy counters\n" +
			"  svcplane proxy counters --on\n" +
			"  svcplane proxy counters --watch",
		Long: "Print connections, packets and bytes by Service and endpoint; a dash stands for what the data plane cannot know.\n\n" +
			"With eBPF the counts begin when the programs were loaded. OPEN and TOTAL are connections; packets, and bytes with IP headers, " +
			"are those of connections that are translated packet by packet. Programs and pods of this node are connected to the endpoint " +
			"at their socket, and their packets are not counted. (refused) are connections that got no endpoint, and (gone) is the sum of all " +
			"endpoints of the past.\n\n" +
			"With iptables the counts are those of the kernel's connection table: connections that are open now, or ended a moment ago. " +
			"Packets and bytes are counted for connections that begin after --on.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if on || off {
				if _, err := admin.SetCounting.Call(cmd.Context(), *dataDir, admin.CountingRequest{On: on}); err != nil {
					return err
				}
			}
			_, err := show(cmd, how, printer.Source[[]admin.Tally]{Get: calling(admin.GetCounters, *dataDir, admin.None{}), Table: countsTable})
			return err
		},
	}
	cmd.Flags().BoolVar(&on, "on", false, "start counting packets and bytes with iptables (sysctl net.netfilter.nf_conntrack_acct)")
	cmd.Flags().BoolVar(&off, "off", false, "stop counting packets and bytes")
	cmd.MarkFlagsMutuallyExclusive("on", "off")
	how.RegisterWatch(cmd.Flags())
	return cmd
}

// inNamespace writes [NAMESPACE/]NAME in full.
func inNamespace(text, namespace string) string {
	if strings.Contains(text, "/") {
		return text
	}
	return namespace + "/" + text
}
