package fields

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

//go:generate go test -vet=off -run TestTheDocumentIsWhatTheTableSays -update .
var update = flag.Bool("update", false, "rewrite docs/fields.md")

func TestTheDocumentIsWhatTheTableSays(t *testing.T) {
	const page = "../../docs/fields.md"
	want := New().Document()
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/fields.md is not what the table says (%v): run go test ./apiserver/fields -update", err)
	}
}
