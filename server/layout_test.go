package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckLayout puts each piece of the layout in the place of the other kind.
func TestCheckLayout(t *testing.T) {
	none := func(string) error { return nil }
	for name, put := range map[string]struct {
		do        func(path string) error
		file, dir string // what is said if a file or directory belongs there; empty: nothing
	}{
		"nothing":     {none, "", ""},
		"a file":      {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "", "is a file and has to be a directory"},
		"a directory": {func(p string) error { return os.Mkdir(p, 0o700) }, "is a directory and has to be a file", ""},
		"a dead link": {func(p string) error { return os.Symlink("/nonexistent/x", p) }, "is a link to /nonexistent/x", "is a link to /nonexistent/x"},
		"a link":      {func(p string) error { return os.Symlink(t.TempDir(), p) }, "is a directory and has to be a file", ""},
		"a ring":      {func(p string) error { return os.Symlink(p, p) }, "too many levels", "too many levels"},
	} {
		for _, p := range layout {
			path := filepath.Join(t.TempDir(), p.path)
			dir := strings.TrimSuffix(path, p.path)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := put.do(path); err != nil {
				t.Fatal(err)
			}
			want := put.dir
			if p.kind != directory {
				want = put.file
			}
			if p.kind == replacedFile && name != "a directory" && name != "a link" {
				want = ""
			}
			switch err := checkLayout(dir); {
			case want == "" && err != nil:
				t.Errorf("%s as %s: %v", p.path, name, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), p.mend)):
				t.Errorf("%s as %s: %v, want %q, the path and the remedy", p.path, name, err, want)
			}
		}
	}
}
