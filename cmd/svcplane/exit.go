package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"svcplane/diagnose"
	"svcplane/server"
	"svcplane/server/admin"
)

// The exit codes of every command, but for `svcplane kubectl`, which has kubectl's own.
const (
	exitYes   = 0 // it is so, or it was done
	exitNo    = 1 // it is not so, or it failed
	exitWrong = 2 // the command was called wrongly: nothing was looked at or done
)

// exitCodes is what help says of them.
var exitCodes = []string{
	"0 it is so, or it was done",
	"1 it is not so (a part does not serve, the kernel differs, no rule takes the URL), or it failed",
	"2 the command was called wrongly: an unknown command or flag, too many or too few arguments, a value that no machine would take",
}

// checkCall is check, whose errors it tells apart: flags that no machine would take are the caller's mistake, what this machine
// lacks may be there the next time.
func (o *Options) checkCall(host server.Host) (*server.Config, error) {
	c, err := o.check(host)
	if err == nil {
		return c, nil
	}
	if _, anywhere := o.check(server.Host{Name: host.Name, Served: true}); anywhere != nil {
		return nil, admin.Blame(err)
	}
	return nil, err
}

// failed marks an error of a command that ran.
type failed struct{ error }

func (f failed) Unwrap() error { return f.error }

// exitCode is that of an error of a command that exits went through. What a command returns when it runs is a failure unless
// it says otherwise; what keeps it from running is in how it was called.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitYes
	case errors.As(err, new(admin.BadRequest)):
		return exitWrong
	case errors.As(err, new(failed)):
		return exitNo
	}
	return exitWrong
}

// run is the program: it executes one command and returns the exit code.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(errOut, "svcplane:", err)
	}
	return exitCode(err)
}

// exits makes a command and those below it tell how they end, and say what may have been meant by a word that is none.
func exits(c *cobra.Command) {
	for _, sub := range c.Commands() {
		exits(sub)
	}
	c.SetFlagErrorFunc(flagMistake)
	if !c.Runnable() {
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	if c.HasSubCommands() {
		c.Args = commandOf
	}
	check := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		return argumentMistake(c, args, check(c, args))
	}
	if do := c.RunE; do != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			if err := do(c, args); err != nil {
				return failed{err}
			}
			return nil
		}
	}
}

// commandOf refuses arguments of a command that has commands: they are mistyped ones.
func commandOf(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(append(names, sub.Name()), sub.Aliases...)
		}
	}
	hint := diagnose.Hint(args[0], names)
	if places := elsewhere(c.Root(), args[0]); len(places) > 0 && hint == "" {
		hint = fmt.Sprintf(": did you mean %s?", strings.Join(places, " or "))
	}
	if hint == "" {
		hint = fmt.Sprintf(": see %s --help", c.CommandPath())
	}
	return admin.Blame(fmt.Errorf("unknown command %q for %q%s", args[0], c.CommandPath(), hint))
}

// ofKubectl are words of kubectl that nobody takes for one of ours.
var ofKubectl = []string{"annotate", "apply", "create", "describe", "edit", "exec", "expose", "get", "label", "logs", "patch", "port-forward",
	"rollout", "run", "scale", "wait"}

// elsewhere lists the commands of that name below others: "ingress explain" and "proxy explain" for explain.
func elsewhere(root *cobra.Command, word string) (places []string) {
	if slices.Contains(ofKubectl, word) {
		return []string{root.Name() + " kubectl " + word}
	}
	for _, c := range root.Commands() {
		for _, sub := range c.Commands() {
			if c.IsAvailableCommand() && sub.IsAvailableCommand() && sub.Name() == word {
				places = append(places, sub.CommandPath())
			}
		}
	}
	return places
}

// argumentMistake says how a command is written, unless it was said.
func argumentMistake(c *cobra.Command, args []string, err error) error {
	if err == nil || errors.As(err, new(admin.BadRequest)) {
		return err
	}
	if none := cobra.NoArgs(c, args); none != nil && none.Error() == err.Error() {
		err = fmt.Errorf("%s takes no arguments, and got %q", c.CommandPath(), args) // cobra calls them unknown commands
	}
	return admin.Blame(fmt.Errorf("%w: it is written %s", err, c.UseLine()))
}

// flagMistake says which flag may have been meant.
func flagMistake(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return admin.Blame(err)
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Deprecated == "" {
			names = append(names, f.Name)
		}
	})
	hint := diagnose.Hint(unknown.GetSpecifiedName(), names, "--")
	if hint == "" {
		hint = fmt.Sprintf(": see %s --help", c.CommandPath())
	}
	return admin.Blame(fmt.Errorf("%w%s", err, hint))
}

// newHelp is cobra's help command, but that a topic which does not exist is a mistake.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Show the help of a command",
		Example: "  svcplane help proxy explain",
		ValidArgsFunction: func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			if of, _, err := c.Root().Find(args); err == nil {
				for _, sub := range of.Commands() {
					if sub.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
					}
				}
			}
			return beginning(typed, names), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			of, rest, err := c.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return commandOf(of, rest)
			}
			of.SetOut(c.OutOrStdout())
			return of.Help()
		},
	}
}
