package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManualPagesAreTheSameEachTime: whatever the environment is; each command has one.
func TestManualPagesAreTheSameEachTime(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	var pages [2]map[string]string
	for i := range pages {
		t.Setenv("SVCPLANE_DATA_DIR", t.TempDir())
		dir := filepath.Join(t.TempDir(), "man")
		if code, out, errOut := invoke(t, "man", dir); code != exitYes || out+errOut != "" {
			t.Fatal(code, out, errOut)
		}
		pages[i] = map[string]string{}
		everyCommand(newRoot(), func(c *cobra.Command) {
			name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
			page, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Error(err)
			}
			pages[i][name] = string(page)
		})
	}
	for name, page := range pages[0] {
		if page != pages[1][name] || !strings.Contains(page, `"1970-01-02"`) || !strings.Contains(page, ".SH EXIT STATUS\n.TP\n0\n") {
			t.Errorf("%s:\n%s", name, page)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "today")
	if code, _, errOut := invoke(t, "man", t.TempDir()); code != exitWrong {
		t.Error(code, errOut)
	}
}
