package node

import (
	"os"
	"testing"
)

// TestNameInAFile: what is no name is none, and the next start writes one.
func TestNameInAFile(t *testing.T) {
	n := &Node{cfg: Config{Name: "edge", Dir: t.TempDir()}}
	for _, text := range []string{"", "other\n", "two words", "\x00\x00"} {
		if text != "" {
			if err := os.WriteFile(nameFile(n.cfg.Dir), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := map[string]string{"other\n": "other"}[text]
		if got := Name(n.cfg.Dir); got != want {
			t.Errorf("%q: the name is %q, want %q", text, got, want)
		}
		if err := n.keepName(); err != nil {
			t.Fatal(err)
		}
		if got := Name(n.cfg.Dir); got != "edge" {
			t.Errorf("%q: the name is %q after it was kept", text, got)
		}
	}
}
