package main

import (
	"context"
	"io"
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

// calling calls a method of the server of a data directory each time that it is called.
func calling[Request, Answer any](m admin.Method[Request, Answer], dataDir string, r Request) func(context.Context) (Answer, error) {
	return func(ctx context.Context) (Answer, error) { return m.Call(ctx, dataDir, r) }
}

// as turns what is got into the document of it.
func as[Answer, Document any](get func(context.Context) (Answer, error), document func(Answer) Document) func(context.Context) (Document, error) {
	return func(ctx context.Context) (d Document, err error) {
		answer, err := get(ctx)
		if err != nil {
			return d, err
		}
		return document(answer), nil
	}
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
