package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"svcplane/diagnose"
	"svcplane/node/runtime"
	"svcplane/node/runtime/image"
	"svcplane/node/runtime/pull"
	"svcplane/printer"
	"svcplane/server"
	"svcplane/server/admin"
)

func newImage(dataDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Pull, import, export, alias, list and remove the images that pods can run",
		Example: "  svcplane image pull nginx:1\n" +
			"  svcplane image import registry.example/web:1 web.tar\n" +
			"  svcplane image alias nginx:1 svcplane/echo\n" +
			"  svcplane image list",
	}
	cmd.AddCommand(newImagePull(dataDir), newImageImport(dataDir), newImageAlias(dataDir), newImageList(dataDir), newImageRemove(dataDir), newImageExport(dataDir), newImagePrune(dataDir))
	return cmd
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

// refMistake marks an error about a reference that is none as the caller's.
func refMistake(err error) error {
	if errors.As(err, new(*name.ErrBadName)) {
		return admin.Blame(err)
	}
	return err
}

// imageMistake also says which image may have been meant by one that is not there.
func imageMistake(store *image.Store, ref string, err error) error {
	if _, getting := store.Get(ref); err == nil || !errors.Is(getting, fs.ErrNotExist) {
		return refMistake(err)
	}
	return fmt.Errorf("%w%s", err, diagnose.Hint(ref, append(imageRefs(store), image.Echo, image.Host)))
}

func newImageImport(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "import [REF] ARCHIVE",
		Short: "Import a docker-save or OCI archive (tar, tar.gz, tar.zst) under a name, or all of its images under theirs",
		Example: "  docker save web:1 -o web.tar && svcplane image import web:1 web.tar\n" +
			"  svcplane image import images.tar.zst",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: arguments(archives, archives),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			store := server.ImageStore(*dataDir)
			if len(args) == 1 {
				names, err := store.ImportAll(ctx, args[0])
				for _, name := range names {
					if _, err := fmt.Fprintln(cmd.OutOrStdout(), name); err != nil {
						return err
					}
				}
				return err
			}
			img, err := store.Import(ctx, args[0], args[1])
			if err != nil {
				return refMistake(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", args[0], img.ID)
			return err
		},
	}
}

// listedImage is a name that pods can run an image by.
type listedImage struct {
	Image    string    `json:"image"`
	ID       string    `json:"id,omitempty"` // sha256:... of its config
	Size     int64     `json:"sizeBytes,omitempty"`
	Imported time.Time `json:"imported,omitzero"`
	Source   string    `json:"source,omitempty"` // pulled or imported
	Pinned   bool      `json:"pinned,omitempty"` // it stays until somebody removes it
	Builtin  bool      `json:"builtin,omitempty"`
	AliasOf  string    `json:"aliasOf,omitempty"`
	Pulling  bool      `json:"pulling,omitempty"`     // it is on its way; Size is what it will be
	Pulled   int64     `json:"pulledBytes,omitempty"` // of these
}

func newImageList(dataDir *string) *cobra.Command {
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the images that pods can run",
		Example: "  svcplane image list\n" +
			"  svcplane image list -o json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := show(cmd, how, printer.Source[[]listedImage]{
				Get: func(context.Context) ([]listedImage, error) { return listImages(*dataDir) }, Table: imageTable,
			})
			return err
		},
	}
	how.Register(cmd.Flags())
	return cmd
}

func listImages(dataDir string) ([]listedImage, error) {
	store := server.ImageStore(dataDir)
	if err := store.Load(); err != nil {
		return nil, err
	}
	all := []listedImage{{Image: image.Echo, Builtin: true}, {Image: image.Host, Builtin: true}}
	for _, img := range store.List() {
		one := listedImage{ID: img.ID, Size: img.Size, Imported: img.Imported, Source: "imported", Pinned: store.Pinned(img)}
		if img.Pulled {
			one.Source = "pulled"
		}
		for _, tag := range img.Tags {
			one.Image = image.Shown(tag)
			all = append(all, one)
		}
		if len(img.Tags) == 0 {
			one.Image = noName
			if len(img.Digests) > 0 {
				one.Image = image.Shown(img.Digests[0])
			}
			all = append(all, one)
		}
	}
	for _, u := range pull.ListUnderway(runtime.BlobDir(server.RuntimeDir(dataDir))) {
		all = append(all, listedImage{Image: image.Shown(u.Ref), Pulling: true, Size: u.Total, Pulled: u.Done})
	}
	for _, alias := range store.Aliases() {
		all = append(all, listedImage{Image: image.Shown(alias.Ref), AliasOf: alias.Target})
	}
	return all, nil
}

// noName stands for the name of an image that another one has taken it from.
const noName = "<none>"

func imageTable(w io.Writer, all []listedImage) error {
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tab, "IMAGE\tID\tSIZE\tSOURCE\tPINNED")
	for _, img := range all {
		switch {
		case img.Builtin:
			fmt.Fprintf(tab, "%s\tbuiltin\t-\t-\t-\n", img.Image)
		case img.Pulling:
			fmt.Fprintf(tab, "%s\tpulling, %d%%\t%.1f MB\t-\t-\n", img.Image, img.Pulled*100/max(img.Size, 1), float64(img.Size)/1e6)
		case img.AliasOf != "":
			fmt.Fprintf(tab, "%s\talias of %s\t-\t-\t-\n", img.Image, img.AliasOf)
		default:
			pinned := "no"
			if img.Pinned {
				pinned = "yes"
			}
			fmt.Fprintf(tab, "%s\t%.19s\t%.1f MB\t%s\t%s\n", img.Image, img.ID, float64(img.Size)/1e6, img.Source, pinned)
		}
	}
	return tab.Flush()
}

func newImageAlias(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "alias REF IMAGE",
		Short: "Make pods that ask for REF run another image, such as svcplane/echo",
		Example: "  svcplane image alias nginx svcplane/echo\n" +
			"  svcplane image alias registry.k8s.io/pause:3.10 svcplane/echo",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: arguments(nil, imageNames(dataDir, image.Echo, image.Host)),
		RunE: func(cmd *cobra.Command, args []string) error {
			store := server.ImageStore(*dataDir)
			alias, err := store.Alias(args[0], args[1])
			if err != nil {
				return imageMistake(store, args[1], err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is an alias of %s\n", image.Shown(alias.Ref), alias.Target)
			return err
		},
	}
}

func newImageRemove(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:               "rm REF",
		Aliases:           []string{"remove"},
		Short:             "Remove an imported image, or an alias, that no container uses",
		Example:           "  svcplane image rm registry.example/web:1",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: arguments(imageNames(dataDir)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := runtime.RemoveImage(server.RuntimeDir(*dataDir), args[0]); err != nil {
				store := server.ImageStore(*dataDir)
				_ = store.Load() // without it there is no hint
				return imageMistake(store, args[0], err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s removed\n", args[0])
			return err
		},
	}
}
