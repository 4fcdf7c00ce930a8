package usage

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestHelpIsGroupedAndNarrow(t *testing.T) {
	long := strings.Repeat("word ", 60)
	root := &cobra.Command{Use: "tool", Short: long, Run: func(*cobra.Command, []string) {}}
	root.PersistentFlags().String("dir", "", "where it lies")
	sub := &cobra.Command{Use: "sub", Short: long, Long: "First.\n\n" + long, Example: "  tool sub --b 1\n", Run: func(*cobra.Command, []string) {}}
	Group(sub.Flags(), "Second of the alphabet", func(fs *pflag.FlagSet) { fs.String("b", "x", long) })
	Group(sub.Flags(), "First of the alphabet", func(fs *pflag.FlagSet) { fs.String("a", "", "short") })
	sub.Flags().Bool("alone", false, "of no group")
	root.AddCommand(sub)
	Install(root)
	for _, args := range [][]string{{"--help"}, {"sub", "--help"}} {
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs(args)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(out.String(), "\n") {
			if len(line) > Columns {
				t.Errorf("%v: a line of %d columns: %s", args, len(line), line)
			}
		}
		if args[0] != "sub" {
			continue
		}
		rest := out.String()
		for _, want := range []string{"First.", "Usage:", "tool sub [flags]", "Examples:\n  tool sub --b 1\n", "Second of the alphabet:\n", "--b string", "First of the alphabet:\n", "--a string", "\nFlags:\n", "--alone", "--help", "\nFlags of every command:\n", "--dir"} {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Fatalf("%q is missing, or not in its place, in\n%s", want, out.String())
			}
			rest = after
		}
	}
}
