package main

import (
	"github.com/spf13/cobra"

	"svcplane/printer"
	"svcplane/server/admin"
)

func newProxyExplain(dataDir *string) *cobra.Command {
	var from, namespace string
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "explain ADDRESS:PORT[/PROTOCOL] | [NAMESPACE/]SERVICE[:PORT]",
		Short: "Explain what becomes of a new connection: which endpoints it may reach, whose address they see, where the kernel decides it",
		Example: "  svcplane proxy explain 10.96.0.5:80\n" +
			"  svcplane proxy explain toad-svc:http --from pod/client\n" +
			"  svcplane proxy explain 192.0.2.1:30123 --from 192.0.2.77",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: arguments(serviceNames(dataDir)),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := admin.ExplainRequest{To: args[0], From: from, Namespace: namespace}
			_, err := show(cmd, how, printer.Source[[]dialDocument]{Get: as(calling(admin.ExplainDial, *dataDir, r), dialDocuments), Table: writeDials})
			return err
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "who connects: pod/NAME or an address (default: the node itself)")
	cmd.Flags().StringVarP(&namespace, flagNamespace, "n", "default", "the namespace of the Service and of that pod")
	how.Register(cmd.Flags())
	return cmd
}
