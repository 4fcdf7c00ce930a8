package usage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Manual is what manual pages say beside the commands.
type Manual struct {
	Version string    // of the program
	Date    time.Time // zero: none. Pages of one version and date are the same octets.
}

// Write writes the page of a command, and of those below it that are not hidden, into a folder, which it makes: tool.1,
// tool-sub.1, and so on (man-pages(7)).
func (m Manual) Write(dir string, c *cobra.Command) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the folder of the manual pages: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, pageName(c)+".1"), []byte(m.page(c)), 0o644); err != nil {
		return fmt.Errorf("writing a manual page: %w", err)
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			if err := m.Write(dir, sub); err != nil {
				return err
			}
		}
	}
	return nil
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// page is the page of a command in the language of man(7).
func (m Manual) page(c *cobra.Command) string {
	c.InitDefaultHelpFlag()
	date := ""
	if !m.Date.IsZero() {
		date = m.Date.UTC().Format(time.DateOnly)
	}
	root := c.Root().Name()
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %q 1 %q %q %q\n", strings.ToUpper(pageName(c)), date, root+" "+m.Version, root)
	fmt.Fprintf(&b, ".nh\n.ad l\n.SH NAME\n%s \\- %s\n", roff(pageName(c)), roff(strings.TrimSuffix(c.Short, ".")))
	b.WriteString(".SH SYNOPSIS\n")
	rest := strings.TrimPrefix(c.UseLine(), c.CommandPath())
	fmt.Fprintf(&b, "\\fB%s\\fR%s\n", roff(c.CommandPath()), roff(rest))
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, ".br\n\\fB%s\\fR COMMAND\n", roff(c.CommandPath()))
	}
	description(&b, c)
	manCommands(&b, c)
	b.WriteString(".SH OPTIONS\n")
	for _, title := range titles(c.Flags()) {
		options(&b, title, c.LocalFlags(), func(f *pflag.Flag) bool { return GroupOf(f) == title })
	}
	options(&b, "Of every command", c.InheritedFlags(), func(*pflag.Flag) bool { return true })
	b.WriteString(".SH EXIT STATUS\n")
	for _, code := range exitCodesOf(c) {
		fmt.Fprintf(&b, ".TP\n%s\n%s\n", roff(code[0]), roff(code[1]))
	}
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", verbatim(strings.TrimRight(c.Example, "\n")))
	}
	seeAlso(&b, c)
	return b.String()
}

// description is the paragraphs of what the command is for; lines that begin with a tab are to be typed.
func description(b *strings.Builder, c *cobra.Command) {
	text := c.Long
	if text == "" {
		text = c.Short
	}
	b.WriteString(".SH DESCRIPTION\n")
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		switch {
		case strings.HasPrefix(line, "\t"):
			fmt.Fprintf(b, ".PP\n.RS 4\n.nf\n%s\n.fi\n.RE\n", verbatim(strings.TrimPrefix(line, "\t")))
		case line == "":
			b.WriteString(".PP\n")
		default:
			b.WriteString(roff(line) + "\n")
		}
	}
}

func manCommands(b *strings.Builder, c *cobra.Command) {
	if !c.HasAvailableSubCommands() {
		return
	}
	b.WriteString(".SH COMMANDS\n")
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			fmt.Fprintf(b, ".TP\n\\fB%s\\fR(1)\n%s\n", roff(pageName(sub)), roff(sub.Short))
		}
	}
}

// options are those flags that belong below a title, and nothing if there are none.
func options(b *strings.Builder, title string, fs *pflag.FlagSet, belongs func(*pflag.Flag) bool) {
	var part strings.Builder
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" || !belongs(f) {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		part.WriteString(".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(&part, "\\fB\\-%s\\fR, ", roff(f.Shorthand))
		}
		fmt.Fprintf(&part, "\\fB\\-\\-%s\\fR", roff(f.Name))
		if value != "" {
			fmt.Fprintf(&part, " \\fI%s\\fR", roff(value))
		}
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			text += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		part.WriteString("\n" + roff(text) + "\n")
	})
	if part.Len() == 0 {
		return
	}
	if title != "" {
		fmt.Fprintf(b, ".SS %q\n", title)
	}
	b.WriteString(part.String())
}

func seeAlso(b *strings.Builder, c *cobra.Command) {
	var pages []string
	if c.HasParent() {
		pages = append(pages, fmt.Sprintf("\\fB%s\\fR(1)", roff(pageName(c.Parent()))))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			pages = append(pages, fmt.Sprintf("\\fB%s\\fR(1)", roff(pageName(sub))))
		}
	}
	if len(pages) > 0 {
		fmt.Fprintf(b, ".SH SEE ALSO\n%s\n", strings.Join(pages, ",\n"))
	}
}

// ascii are the characters that roff would print as others (groff_char(7)).
var ascii = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// roff is a line of text: a dot at its beginning is no request.
func roff(line string) string {
	line = ascii.Replace(line)
	if strings.HasPrefix(line, ".") {
		line = `\&` + line
	}
	return line
}

func verbatim(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = roff(line)
	}
	return strings.Join(lines, "\n")
}
