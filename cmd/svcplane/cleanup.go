package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

type cleanupStep struct {
	what string
	do   func() error
}

func newCleanup(dataDir *string) *cobra.Command {
	var data bool
	var configFile string
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove every trace from the kernel: pods, links, addresses, rules; with --data the data directory too",
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
			return cleanUp(cmd.Context(), *dataDir, data)
		},
	}
	cmd.Flags().BoolVar(&data, "data", false, "remove the data directory too: every object, key, image and volume")
	cmd.Flags().StringVar(&configFile, "config", "", "the server's, which may name the data directory")
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

// cleanUp removes what a server that has ended left in the kernel, and its data directory, if that is asked for.
func cleanUp(ctx context.Context, dataDir string, data bool) error {
	if _, err := os.Stat(dataDir); errors.Is(err, os.ErrNotExist) {
		// rules and links can be there without it: nothing to lock, much to remove
		return cleanUpClaimed(ctx, dataDir)
	}
	lock, err := lockDataDir(dataDir)
	if err != nil {
		return err
	}
	defer lock.release()
	if err := cleanUpClaimed(ctx, dataDir); err != nil {
		return err
	}
	if !data {
		return nil
	}
	if err := os.RemoveAll(dataDir); err != nil {
		return fmt.Errorf("removing the data directory: %w", err)
	}
	return nil
}

// cleanUpClaimed leaves alone what a server serves with that has another data directory.
func cleanUpClaimed(ctx context.Context, dataDir string) error {
	only, err := claimPlane("")
	if err != nil {
		return err
	}
	if only != nil {
		defer only.Close()
	}
	return cleanupKernel(ctx, dataDir)
}

// runCleanups does every step, also after one that failed.
func runCleanups(steps ...cleanupStep) error {
	var errs []error
	for _, s := range steps {
		if err := s.do(); err != nil {
			errs = append(errs, fmt.Errorf("removing %s: %w", s.what, err))
		}
	}
	return errors.Join(errs...)
}
