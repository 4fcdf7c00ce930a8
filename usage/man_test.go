package usage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func testTool() *cobra.Command {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "tool", Short: "Do things", Run: run}
	root.PersistentFlags().String("dir", "/var/x", "where it lies")
	sub := &cobra.Command{Use: "sub NAME", Short: "Do one thing", Long: "First.\n\n\t.type ~/this\n\nLast.", Example: "  tool sub --b 'x'\n", Run: run}
	Group(sub.Flags(), "Zeros", func(fs *pflag.FlagSet) { fs.StringP("b", "c", "", "what `thing` it is") })
	sub.Flags().Bool("alone", true, "of no group")
	sub.Flags().Bool("secret", false, "hidden")
	sub.Flags().Lookup("secret").Hidden = true
	root.AddCommand(sub, &cobra.Command{Use: "hidden", Hidden: true, Run: run})
	SetExitCodes(root, "0 done", "1 not done")
	return root
}

func TestManual(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	m := Manual{Version: "v1", Date: time.Unix(0, 0)}
	if err := m.Write(dir, testTool()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "tool-sub.1"))
	if err != nil {
		t.Fatal(err)
	}
	want := `.TH "TOOL-SUB" 1 "1970-01-01" "tool v1" "tool"
.nh
.ad l
.SH NAME
tool\-sub \- Do one thing
.SH SYNOPSIS
\fBtool sub\fR NAME [flags]
.SH DESCRIPTION
First.
.PP
.PP
.RS 4
.nf
\&.type \(ti/this
.fi
.RE
.PP
Last.
.SH OPTIONS
.SS "Zeros"
.TP
\fB\-c\fR, \fB\-\-b\fR \fIthing\fR
what thing it is
.TP
\fB\-\-alone\fR
of no group (default true)
.TP
\fB\-h\fR, \fB\-\-help\fR
help for sub
.SS "Of every command"
.TP
\fB\-\-dir\fR \fIstring\fR
where it lies (default /var/x)
.SH EXIT STATUS
.TP
0
done
.TP
1
not done
.SH EXAMPLES
.nf
  tool sub \-\-b \(aqx\(aq
.fi
.SH SEE ALSO
\fBtool\fR(1)
`
	if string(page) != want {
		t.Errorf("got\n%s", page)
	}
}

// TestManualWithoutDate: nothing is taken from the clock.
func TestManualWithoutDate(t *testing.T) {
	if page := (Manual{Version: "v1"}).page(testTool()); !strings.HasPrefix(page, ".TH \"TOOL\" 1 \"\" \"tool v1\" \"tool\"\n") {
		t.Error(page[:60])
	}
}
