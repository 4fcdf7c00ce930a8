package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"svcplane/usage"
)

// everyCommand calls f with every command that people see.
func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			everyCommand(sub, f)
		}
	}
}

func TestEveryHelpHasExamplesAndIsNarrow(t *testing.T) {
	everyCommand(newRoot(), func(c *cobra.Command) {
		var out bytes.Buffer
		c.SetOut(&out)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "\nExamples:\n  ") {
			t.Errorf("%s --help has no examples:\n%s", c.CommandPath(), out.String())
		}
		for _, line := range strings.Split(out.String(), "\n") {
			if len(line) > usage.Columns {
				t.Errorf("%s --help has a line of %d columns: %s", c.CommandPath(), len(line), line)
			}
		}
	})
}

// TestValuesOfFlagsAreOneWord: pflag takes what is in backquotes for the name of the value.
func TestValuesOfFlagsAreOneWord(t *testing.T) {
	everyCommand(newRoot(), func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); strings.Contains(name, " ") {
				t.Errorf("%s --%s has a value called %q", c.CommandPath(), f.Name, name)
			}
		})
	})
}

func TestFlagsOfTheServerAreGrouped(t *testing.T) {
	cmd := newServer(new(string))
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if usage.GroupOf(f) == "" && !slices.Contains(notInFile, f.Name) {
			t.Errorf("--%s is in no group", f.Name)
		}
	})
}
