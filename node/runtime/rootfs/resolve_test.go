package rootfs

import (
	"os"
	"path/filepath"
	"testing"
)

func TestResolveStaysInTheRoot(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"usr/lib", "run"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"lib": "usr/lib", "var": "/usr", "escape": "../../../../etc", "absolute": "/etc", "loop": "loop", "dangling": "/run/later/x",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path, want string
		exists     bool
	}{
		{"/", "", true},
		{"lib", "usr/lib", true},
		{"/var/lib/", "usr/lib", true},
		{"/../../usr", "usr", true},
		{"/escape/passwd", "etc/passwd", false},
		{"/absolute", "etc", false},
		{"/dangling", "run/later/x", false},
		{"/lib/../new/thing", "new/thing", false},
	} {
		got, exists, err := resolve(root, c.path)
		if err != nil || got != filepath.Join(root, c.want) || exists != c.exists {
			t.Errorf("%s is %s, exists %v, %v; want %s, %v", c.path, got, exists, err, c.want, c.exists)
		}
	}
	if _, _, err := resolve(root, "/loop/x"); err == nil {
		t.Error("a loop of links is followed")
	}
}

func TestUnescape(t *testing.T) {
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("got %q", got)
	}
}
