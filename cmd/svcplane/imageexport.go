package main

import (
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"svcplane/node/runtime"
	"svcplane/node/runtime/image"
	"svcplane/server"
)

func newImageExport(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "export REF FILE",
		Short: "Write an image into an archive that docker load, ctr image import and this program take",
		Example: "  svcplane image export web:1 web.tar\n" +
			"  svcplane image export web:1 web.tar.zst",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: arguments(imageNames(dataDir), archives),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			store := server.ImageStore(*dataDir)
			img, err := store.Export(ctx, args[0], args[1])
			if err != nil {
				return imageMistake(store, args[0], err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", args[1], img.ID)
			return err
		},
	}
}

func newImagePrune(dataDir *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove the pulled images that no container uses; what was imported, or has an alias, stays",
		Example: "  svcplane image prune\n" +
			"  svcplane image prune --all",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			removed, freed, err := runtime.PruneImages(server.RuntimeDir(*dataDir), all)
			for _, img := range removed {
				for _, tag := range img.Tags {
					fmt.Fprintf(cmd.OutOrStdout(), "untagged: %s\n", image.Shown(tag))
				}
				fmt.Fprintf(cmd.OutOrStdout(), "deleted: %s\n", img.ID)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Total reclaimed space: %.1f MB\n", float64(freed)/1e6)
			return err
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove imported images, too")
	return cmd
}
