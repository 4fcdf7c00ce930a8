package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newStatus(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show each part: its state, since when, one figure; exit 1 if one is not serving",
		Example: "  svcplane status\n" +
			"  svcplane status --data-dir /srv/svcplane",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []Status
			if err := ask(cmd.Context(), *dataDir, "GET", "/status", nil, nil, &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "PART\tSTATE\tSINCE\tFIGURE")
			var down []string
			for _, s := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Part, s.State, time.Since(s.Since).Round(time.Second), s.Figure)
				if s.State != "serving" {
					down = append(down, s.Part)
				}
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if len(down) > 0 {
				return errors.New("not serving: " + strings.Join(down, ", "))
			}
			return nil
		},
	}
}
