package main

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"svcplane/printer"
	"svcplane/server"
)

// version is set by the linker.
var version = "devel"

// versions is what `svcplane version` shows.
type versions struct {
	Version    string `json:"version"`
	Kubernetes string `json:"kubernetesVersion"`
	Go         string `json:"goVersion"`
}

func newVersion() *cobra.Command {
	var how printer.Flags
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of svcplane, of the Kubernetes API and of Go",
		Example: "  svcplane version\n" +
			"  svcplane version -o json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := show(cmd, how, printer.Source[versions]{
				Get: func(context.Context) (versions, error) {
					return versions{Version: version, Kubernetes: server.KubernetesVersion(), Go: runtime.Version()}, nil
				},
				Table: func(w io.Writer, v versions) error {
					_, err := fmt.Fprintf(w, "svcplane %s (kubernetes %s, %s)\n", v.Version, v.Kubernetes, v.Go)
					return err
				},
			})
			return err
		},
	}
	how.Register(cmd.Flags())
	return cmd
}
