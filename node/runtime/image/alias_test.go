package image

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

func aliasStore(t *testing.T) *Store {
	t.Helper()
	s := NewStore(t.TempDir())
	err := s.locked(func() error {
		return s.add(Image{ID: "sha256:" + strings.Repeat("a", 64), Tags: []string{full(t, "small:1")}, Digests: []string{full(t, "small@sha256:"+strings.Repeat("b", 64))}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func full(t *testing.T, ref string) string {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Name()
}

func TestAlias(t *testing.T) {
	s := aliasStore(t)
	for _, a := range [][2]string{{"nginx", "svcplane/echo"}, {"docker.io/library/httpd:2", "docker.io/svcplane/host:latest"}, {"quay.io/x/web:1", "small:1"}, {"again", "quay.io/x/web:1"}, {"thrice", "nginx:latest"}} {
		if _, err := s.Alias(a[0], a[1]); err != nil {
			t.Fatal(err)
		}
	}
	other := NewStore(s.dir) // another process
	if err := other.Load(); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{
		"nginx": Echo, "nginx:latest": Echo, "docker.io/library/nginx:latest": Echo, "index.docker.io/nginx": Echo, "httpd:2": Host, "thrice": Echo,
		"nginx:1": "", "httpd": "", "quay.io/x/web:1": "", "small:1": "", "quay.io/library/nginx": "",
		"svcplane/host": Host, "docker.io/svcplane/host": Host, "svcplane/host:7": Host, "svcplane/host@sha256:" + strings.Repeat("0", 64): Host,
	} {
		if got := other.Builtin(ref); got != want {
			t.Errorf("%s stands for %q, want %q", ref, got, want)
		}
	}
	for _, ref := range []string{"quay.io/x/web:1", "again:latest"} {
		if img, err := other.Get(ref); err != nil || img.Tags[0] != full(t, "small:1") {
			t.Errorf("%s is %v, %v", ref, img, err)
		}
	}
	if got := len(other.Aliases()); got != 5 {
		t.Errorf("%d aliases, want 5", got)
	}
}

func TestAliasesThatCannotBe(t *testing.T) {
	s := aliasStore(t)
	for _, c := range []struct{ ref, target, want string }{
		{"svcplane/echo:2", "svcplane/host", "part of svcplane"},
		{"small:1", "svcplane/echo", "svcplane image rm small:1"},
		{"nginx", "nowhere:1", "neither builtin nor in the local store"},
		{"NGINX", "svcplane/echo", "NGINX"},
		{"nginx", "BAD", "BAD"},
	} {
		if _, err := s.Alias(c.ref, c.target); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s as alias of %s: %v, want %q", c.ref, c.target, err, c.want)
		}
	}
	if len(s.Aliases()) != 0 {
		t.Errorf("there are aliases: %v", s.Aliases())
	}
}

func TestRemove(t *testing.T) {
	s := aliasStore(t)
	small := s.List()[0]
	if _, err := s.Alias("web", "small:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Alias("nginx", "svcplane/echo"); err != nil {
		t.Fatal(err)
	}
	byAlias := Use{Container: "main of pod default/a", IDs: []string{Echo}, Refs: []string{"svcplane/echo", "nginx"}}
	byID := Use{Container: "main of pod default/b", IDs: []string{small.ID}, Refs: []string{"small:1"}}
	for _, c := range []struct {
		ref   string
		users []Use
		want  string
	}{
		{"svcplane/echo", nil, "part of svcplane"},
		{"nothing:1", nil, "file does not exist"},
		{"nginx", []Use{byAlias, byID}, "image nginx is used by container main of pod default/a; delete the pod first"},
		{"small:1", []Use{byAlias, byID}, "image small:1 is used by container main of pod default/b; delete the pod first"},
		{small.ID, []Use{byID}, "is used by container main of pod default/b"},
		{"small:1", nil, "what index.docker.io/library/web:latest is an alias of; remove that first: svcplane image rm"},
		{"web", []Use{byAlias, byID}, ""},
		{"nginx", []Use{byID}, ""},
		{"small:1", []Use{byAlias}, ""},
		{"small:1", nil, "file does not exist"},
	} {
		err := s.Remove(c.ref, c.users)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("remove %s: %v, want %q", c.ref, err, c.want)
		}
	}
	if _, err := s.Get("small:1"); !errors.Is(err, fs.ErrNotExist) || len(s.List()) != 0 || len(s.Aliases()) != 0 {
		t.Errorf("left: %v, %v, %v", s.List(), s.Aliases(), err)
	}
}

func TestImportTakesAnAliasesPlace(t *testing.T) {
	s := aliasStore(t)
	if _, err := s.Alias("web:1", "svcplane/echo"); err != nil {
		t.Fatal(err)
	}
	err := s.locked(func() error {
		return s.add(Image{ID: "sha256:" + strings.Repeat("c", 64), Tags: []string{full(t, "web:1")}})
	})
	if err != nil || s.Builtin("web:1") != "" {
		t.Errorf("web:1 still stands for %q, %v", s.Builtin("web:1"), err)
	}
}
