package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"svcplane/printer"
	"svcplane/server/admin"
)

func newStatus(dataDir *string) *cobra.Command {
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of each part, since when it has it, and one figure; exit 1 if a part does not serve",
		Example: "  svcplane status\n" +
			"  svcplane status --watch\n" +
			"  svcplane status -o json --data-dir /srv/svcplane",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := show(cmd, how, printer.Source[[]admin.Status]{Get: calling(admin.GetStatus, *dataDir, admin.None{}), Table: statusTable})
			if err != nil || how.Watch {
				return err
			}
			var down []string
			for _, s := range all {
				if s.State != admin.Serving {
					down = append(down, s.Part)
				}
			}
			if len(down) > 0 {
				return errors.New("not serving: " + strings.Join(down, ", "))
			}
			return nil
		},
	}
	how.RegisterWatch(cmd.Flags())
	return cmd
}

func statusTable(w io.Writer, all []admin.Status) error {
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tab, "PART\tSTATE\tSINCE\tFIGURE")
	for _, s := range all {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\n", s.Part, s.State, time.Since(s.Since).Round(time.Second), s.Figure)
	}
	return tab.Flush()
}
