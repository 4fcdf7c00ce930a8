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
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove every trace from the kernel: pods, links, addresses, rules; with --data the data directory too",
		Example: "  svcplane cleanup\n" +
			"  svcplane cleanup --data",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("cleanup must run as root: use sudo")
			}
			return cleanUp(cmd.Context(), *dataDir, data)
		},
	}
	cmd.Flags().BoolVar(&data, "data", false, "remove the data directory too: every object, key, image and volume")
	return cmd
}

// cleanUp removes what a server that has ended left in the kernel, and its data directory, if that is asked for.
func cleanUp(ctx context.Context, dataDir string, data bool) error {
	if _, err := os.Stat(dataDir); errors.Is(err, os.ErrNotExist) {
		// rules and links can be there without it: nothing to lock, much to remove
		return cleanupKernel(ctx, dataDir)
	}
	lock, err := lockDataDir(dataDir)
	if err != nil {
		return err
	}
	defer lock.release()
	if err := cleanupKernel(ctx, dataDir); err != nil {
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
