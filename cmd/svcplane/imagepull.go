package main

import (
	"cmp"
	"fmt"
	"io"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"svcplane/node/runtime"
	"svcplane/server"
)

func newImagePull(dataDir *string) *cobra.Command {
	var registries string
	cmd := &cobra.Command{
		Use:   "pull REF",
		Short: "Pull an image from its registry, so that pods start at once; what a broken pull has fetched is kept for the next",
		Example: "  svcplane image pull nginx:1\n" +
			"  svcplane image pull registry.example:5000/team/web@sha256:0123...",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			bar := &pullBar{out: cmd.ErrOrStderr(), what: args[0], terminal: isTerminal(cmd.ErrOrStderr())}
			img, err := runtime.PullImage(ctx, server.RuntimeDir(*dataDir), cmp.Or(registries, server.RegistriesPath(*dataDir)), args[0], bar.show)
			bar.end()
			if err != nil {
				return refMistake(err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", args[0], img.ID)
			return err
		},
	}
	cmd.Flags().StringVar(&registries, "registries", "", "file that says where images come from (default <data-dir>/registries.yaml, if it is there)")
	return cmd
}

// pullBar shows how far a pull is: on a terminal one line that changes, else a line now and then.
type pullBar struct {
	out      io.Writer
	what     string
	terminal bool

	mu    sync.Mutex
	last  time.Time
	shown bool
}

func (b *pullBar) show(done, total int64) {
	every := 5 * time.Second
	if b.terminal {
		every = 100 * time.Millisecond
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() && !b.terminal {
		b.last = time.Now() // what is over at once needs no line
	}
	if time.Since(b.last) < every || total == 0 {
		return
	}
	b.last, b.shown = time.Now(), true
	const width = 30
	full := int(min(done, total) * width / total)
	bar := fmt.Sprintf("%s [%-*s] %3d%%  %.1f of %.1f MB", b.what, width, stars[:full], min(done, total)*100/total, float64(done)/1e6, float64(total)/1e6)
	if b.terminal {
		fmt.Fprintf(b.out, "\r\x1b[K%s", bar)
	} else {
		fmt.Fprintln(b.out, bar)
	}
}

const stars = "=============================="

func (b *pullBar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.terminal && b.shown {
		fmt.Fprintln(b.out)
	}
}
