package main

import (
	"fmt"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"svcplane/node/image"
)

func newImage(dataDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Import and list the images that pods can run",
		Example: "  svcplane image import registry.example/web:1 web.tar\n" +
			"  svcplane image list",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImageImport(dataDir), newImageList(dataDir))
	return cmd
}

// imageStore can be read and written beside a running server.
func imageStore(dataDir string) *image.Store {
	return image.NewStore(filepath.Join(runtimeDir(dataDir), "images"))
}

func newImageImport(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "import REF ARCHIVE",
		Short:   "Import a docker-save or OCI archive (tar, also gzipped) under a name",
		Example: "  docker save web:1 -o web.tar && svcplane image import web:1 web.tar",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, err := imageStore(*dataDir).Import(args[0], args[1])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", args[0], img.ID)
			return err
		},
	}
}

func newImageList(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the images that pods can run",
		Example: "  svcplane image list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store := imageStore(*dataDir)
			if err := store.Load(); err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tID\tSIZE")
			for _, builtin := range []string{image.Echo, image.Host} {
				fmt.Fprintf(w, "%s\tbuiltin\t-\n", builtin)
			}
			for _, img := range store.List() {
				for _, ref := range img.Tags {
					fmt.Fprintf(w, "%s\t%.19s\t%.1f MB\n", ref, img.ID, float64(img.Size)/1e6)
				}
			}
			return w.Flush()
		},
	}
}
