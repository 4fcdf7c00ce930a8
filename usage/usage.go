package usage

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Columns is how long a line of help may be.
const Columns = 100

const annotation = "svcplane/group"

// Group declares flags that are printed together, below a title.
func Group(fs *pflag.FlagSet, title string, register func(*pflag.FlagSet)) {
	group := pflag.NewFlagSet(title, pflag.ContinueOnError)
	register(group)
	group.VisitAll(func(f *pflag.Flag) {
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		f.Annotations[annotation] = []string{title}
		fs.AddFlag(f)
	})
}

// GroupOf is the title that a flag is printed below; "" if it has none.
func GroupOf(f *pflag.Flag) string {
	return strings.Join(f.Annotations[annotation], "")
}

const annotationExit = "svcplane/exit"

// SetExitCodes says what the exit codes of a command mean, and of those below it that have none of their own: lines of a code,
// a space, and its meaning.
func SetExitCodes(c *cobra.Command, lines ...string) {
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[annotationExit] = strings.Join(lines, "\n")
}

// exitCodesOf are pairs of a code and its meaning.
func exitCodesOf(c *cobra.Command) [][2]string {
	for ; c != nil; c = c.Parent() {
		if text := c.Annotations[annotationExit]; text != "" {
			var all [][2]string
			for _, line := range strings.Split(text, "\n") {
				code, meaning, _ := strings.Cut(line, " ")
				all = append(all, [2]string{code, meaning})
			}
			return all
		}
	}
	return nil
}

// Install makes a command and those below it print their help this way.
func Install(root *cobra.Command) {
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { fmt.Fprint(c.OutOrStdout(), help(c)) })
	root.SetUsageFunc(func(c *cobra.Command) error {
		_, err := io.WriteString(c.OutOrStderr(), synopsis(c))
		return err
	})
}

func help(c *cobra.Command) string {
	text := c.Long
	if text == "" {
		text = c.Short
	}
	var b strings.Builder
	for _, paragraph := range strings.Split(strings.TrimSpace(text), "\n") {
		if strings.HasPrefix(paragraph, "\t") { // what is to be typed
			b.WriteString(paragraph + "\n")
			continue
		}
		b.WriteString(wrap(paragraph, 0))
	}
	return b.String() + "\n" + synopsis(c)
}

// synopsis is the help without what the command is for.
func synopsis(c *cobra.Command) string {
	c.InitDefaultHelpFlag()
	var b strings.Builder
	b.WriteString("Usage:\n")
	if c.Runnable() {
		b.WriteString("  " + c.UseLine() + "\n")
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("  " + c.CommandPath() + " COMMAND\n")
	}
	if c.Example != "" {
		b.WriteString("\nExamples:\n" + strings.TrimRight(c.Example, "\n") + "\n")
	}
	b.WriteString(commands(c))
	local := c.LocalFlags()
	for _, title := range titles(c.Flags()) {
		heading := title
		if heading == "" {
			heading = "Flags"
		}
		section(&b, heading, local, func(f *pflag.Flag) bool { return GroupOf(f) == title })
	}
	section(&b, "Flags of every command", c.InheritedFlags(), func(*pflag.Flag) bool { return true })
	if c.Annotations[annotationExit] != "" {
		b.WriteString("\nExit codes:\n")
		for _, code := range exitCodesOf(c) {
			fmt.Fprintf(&b, "  %s  %s", code[0], strings.TrimLeft(wrap(code[1], len("  0  ")), " "))
		}
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n\"%s COMMAND --help\" tells more about a command.\n", c.CommandPath())
	}
	return b.String()
}

func commands(c *cobra.Command) string {
	if !c.HasAvailableSubCommands() {
		return ""
	}
	var b strings.Builder
	b.WriteString("\nCommands:\n")
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			name := fmt.Sprintf("  %-*s ", sub.NamePadding(), sub.Name())
			b.WriteString(name + strings.TrimLeft(wrap(sub.Short, len(name)), " "))
		}
	}
	return b.String()
}

// titles lists the groups in the order in which their first flags were declared; flags of none come last.
func titles(fs *pflag.FlagSet) []string {
	sorted := fs.SortFlags
	fs.SortFlags = false
	defer func() { fs.SortFlags = sorted }()
	var all []string
	fs.VisitAll(func(f *pflag.Flag) {
		if title := GroupOf(f); title != "" && !slices.Contains(all, title) {
			all = append(all, title)
		}
	})
	return append(all, "")
}

// section prints those flags that belong to it, and nothing if there are none.
func section(b *strings.Builder, heading string, fs *pflag.FlagSet, belongs func(*pflag.Flag) bool) {
	part := pflag.NewFlagSet(heading, pflag.ContinueOnError)
	fs.VisitAll(func(f *pflag.Flag) {
		if belongs(f) {
			part.AddFlag(f)
		}
	})
	if part.HasAvailableFlags() {
		b.WriteString("\n" + heading + ":\n" + part.FlagUsagesWrapped(Columns))
	}
}

// wrap breaks a paragraph between words into lines that begin with an indent.
func wrap(text string, indent int) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(text) {
		switch {
		case column == 0:
			b.WriteString(strings.Repeat(" ", indent))
			column = indent
		case column+1+len(word) > Columns:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String() + "\n"
}
