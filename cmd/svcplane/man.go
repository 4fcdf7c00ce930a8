package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"svcplane/server/admin"
	"svcplane/usage"
)

// newMan is for who makes packages: `make man`, `make deb`.
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages of every command into a folder",
		Hidden: true,
		Long: "Write the manual pages of every command into a folder: svcplane.1, svcplane-server.1 and so on. " +
			"They are dated by $SOURCE_DATE_EPOCH, or not at all, so that the same binary writes the same pages.",
		Example:           "  svcplane man /usr/local/share/man/man1",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: arguments(cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)),
		RunE: func(cmd *cobra.Command, args []string) error {
			manual := usage.Manual{Version: version}
			if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
				seconds, err := strconv.ParseInt(text, 10, 64)
				if err != nil {
					return admin.Blame(fmt.Errorf("SOURCE_DATE_EPOCH %q: must be seconds since 1970 (reproducible-builds.org)", text))
				}
				manual.Date = time.Unix(seconds, 0)
			}
			root := cmd.Root()
			root.PersistentFlags().Lookup("data-dir").DefValue = standardDataDir // whatever this shell's environment says
			return manual.Write(args[0], root)
		},
	}
}
