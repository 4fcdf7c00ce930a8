package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"svcplane/printer"
	"svcplane/server/admin"
)

// show prints a source as the flags say. With -w it ends at Ctrl-C or SIGTERM, which is no error.
func show[T any](cmd *cobra.Command, f printer.Flags, s printer.Source[T]) (T, error) {
	ctx := cmd.Context()
	if f.Watch {
		var stop context.CancelFunc
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
		defer stop()
	}
	return printer.Print(ctx, printer.Out{
		Flags: f, To: cmd.OutOrStdout(), Problems: problems{cmd.ErrOrStderr()}, Terminal: isTerminal(cmd.OutOrStdout()),
	}, s)
}

// asked is what a server answers to a question.
func asked[T any](dataDir, method, path string, query url.Values) func(context.Context) (T, error) {
	return func(ctx context.Context) (answer T, err error) {
		return answer, admin.Ask(ctx, dataDir, method, path, query, &answer)
	}
}

// got is what a server answers to a GET.
func got[T any](dataDir, path string, query url.Values) func(context.Context) (T, error) {
	return asked[T](dataDir, http.MethodGet, path, query)
}

// problems prints lines that begin as every error of this program does.
type problems struct{ io.Writer }

func (p problems) Write(line []byte) (int, error) {
	if _, err := io.WriteString(p.Writer, "svcplane: "); err != nil {
		return 0, err
	}
	return p.Writer.Write(line)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
