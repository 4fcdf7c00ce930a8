package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"svcplane/server"
)

func newCleanup(dataDir *string) *cobra.Command {
	var data bool
	var configFile string
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove everything of svcplane from the kernel: pods, links, addresses, rules; with --data the data directory, too",
		Example: "  svcplane cleanup\n" +
			"  svcplane cleanup --data\n" +
			"  svcplane cleanup --config /etc/svcplane/config.yaml",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("cleanup must run as root: use sudo")
			}
			if configFile != "" && !cmd.Flags().Changed("data-dir") {
				configured, err := configuredDataDir(configFile)
				if err != nil {
					return err
				}
				*dataDir = configured
			}
			return server.CleanUp(cmd.Context(), *dataDir, data)
		},
	}
	cmd.Flags().BoolVar(&data, "data", false, "remove the data directory, too: every object, key, image and volume")
	cmd.Flags().StringVar(&configFile, "config", "", "config file of the server, which may name the data directory")
	return cmd
}

// configuredDataDir is the data directory of a server with that config file, which need not be there.
func configuredDataDir(configFile string) (string, error) {
	server, _, err := newRoot().Find([]string{"server"})
	if err != nil {
		return "", err
	}
	if err := loadFile(configFile, serverFlags(server)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("looking for the data directory of the server: %w: mend that, or say --data-dir", err)
	}
	return server.InheritedFlags().Lookup("data-dir").Value.String(), nil
}
