package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"svcplane/diagnose"
	"svcplane/node/image"
	"svcplane/node/runtime"
)

func newImage(dataDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Import, alias, list and remove the images that pods can run",
		Example: "  svcplane image import registry.example/web:1 web.tar\n" +
			"  svcplane image alias nginx:1 svcplane/echo\n" +
			"  svcplane image list",
	}
	cmd.AddCommand(newImageImport(dataDir), newImageAlias(dataDir), newImageList(dataDir), newImageRemove(dataDir))
	return cmd
}

// imageStore can be read and written beside a running server.
func imageStore(dataDir string) *image.Store {
	return image.NewStore(filepath.Join(runtimeDir(dataDir), "images"))
}

// imageRefs are the names that an image of the store can be asked for by, and those of aliases.
func imageRefs(store *image.Store) []string {
	var all []string
	for _, img := range store.List() {
		all = append(all, img.Tags...)
	}
	for _, alias := range store.Aliases() {
		all = append(all, alias.Ref)
	}
	for _, full := range all {
		short := strings.TrimPrefix(full, name.DefaultRegistry+"/")
		all = append(all, strings.TrimPrefix(short, "library/"))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// imageMistake says which image may have been meant by one that is not there; a reference that is none is the caller's.
func imageMistake(store *image.Store, ref string, err error) error {
	if errors.As(err, new(*name.ErrBadName)) {
		return calledWrongly(err)
	}
	if _, getting := store.Get(ref); err == nil || !errors.Is(getting, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w%s", err, diagnose.Hint(ref, append(imageRefs(store), image.Echo, image.Host)))
}

func newImageImport(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "import REF ARCHIVE",
		Short:   "Import a docker-save or OCI archive (tar, also gzipped) under a name",
		Example: "  docker save web:1 -o web.tar && svcplane image import web:1 web.tar",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			store := imageStore(*dataDir)
			img, err := store.Import(args[0], args[1])
			if err != nil {
				return imageMistake(store, image.Echo, err)
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
			for _, alias := range store.Aliases() {
				fmt.Fprintf(w, "%s\talias of %s\t-\n", alias.Ref, alias.Target)
			}
			return w.Flush()
		},
	}
}

func newImageAlias(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "alias REF IMAGE",
		Short: "Have pods that ask for REF run another image, such as svcplane/echo",
		Example: "  svcplane image alias nginx svcplane/echo\n" +
			"  svcplane image alias registry.k8s.io/pause:3.10 svcplane/echo",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			store := imageStore(*dataDir)
			alias, err := store.Alias(args[0], args[1])
			if err != nil {
				return imageMistake(store, args[1], err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is an alias of %s\n", alias.Ref, alias.Target)
			return err
		},
	}
}

func newImageRemove(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "rm REF",
		Aliases: []string{"remove"},
		Short:   "Remove an imported image, or an alias, that no container uses",
		Example: "  svcplane image rm registry.example/web:1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := runtime.RemoveImage(runtimeDir(*dataDir), args[0]); err != nil {
				store := imageStore(*dataDir)
				_ = store.Load() // without it there is no hint
				return imageMistake(store, args[0], err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s removed\n", args[0])
			return err
		},
	}
}
