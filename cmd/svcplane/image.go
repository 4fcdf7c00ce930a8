package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime"
)

func newImage(dataDir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Import and list the images that pods can run",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImageImport(dataDir), newImageList(dataDir))
	return cmd
}

func newImageImport(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "import REF ARCHIVE",
		Short: "Import a docker-save or OCI archive (tar, also gzipped; - for standard input) under a name",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := cmd.InOrStdin()
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			var digest string
			if err := ask(cmd.Context(), *dataDir, http.MethodPost, "/images", url.Values{"ref": {args[0]}}, in, &digest); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", args[0], digest)
			return err
		},
	}
}

func newImageList(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the images that pods can run",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var images []*runtimeapi.Image
			if err := ask(cmd.Context(), *dataDir, http.MethodGet, "/images", nil, nil, &images); err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "IMAGE\tID\tSIZE")
			for _, image := range images {
				for _, ref := range image.RepoTags {
					fmt.Fprintf(w, "%s\t%.19s\t%.1f MB\n", ref, image.Id, float64(image.Size)/1e6)
				}
			}
			return w.Flush()
		},
	}
}

// adminImages answers the commands above.
func adminImages(a *admin, rt *runtime.Runtime) {
	a.handle("GET /images", func(r *http.Request) (any, error) { return rt.ListImages(r.Context(), nil) })
	a.handle("POST /images", func(r *http.Request) (any, error) {
		ref := r.URL.Query().Get("ref")
		if ref == "" {
			return nil, errors.New("an image needs a name")
		}
		return importImage(rt, ref, r.Body)
	})
}

// importImage spools the archive: its formats are read by seeking.
func importImage(rt *runtime.Runtime, ref string, archive io.Reader) (string, error) {
	f, err := os.CreateTemp("", "svcplane-image-*")
	if err != nil {
		return "", fmt.Errorf("spooling the archive: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, archive); err != nil {
		return "", fmt.Errorf("spooling the archive: %w", err)
	}
	return rt.Import(ref, f.Name())
}
