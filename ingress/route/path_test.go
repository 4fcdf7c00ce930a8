package route

import (
	"net/url"
	"strings"
	"testing"
)

func TestCleanURLPath(t *testing.T) {
	for _, test := range []struct{ in, sent, match string }{
		{"/", "/", "/"},
		{"/a/b", "/a/b", "/a/b"},
		{"/a/b/", "/a/b/", "/a/b/"},
		{"/a/./b", "/a/b", "/a/b"},
		{"/a/../b", "/b", "/b"},
		{"/a/b/..", "/a/", "/a/"},
		{"/a/.", "/a/", "/a/"},
		{"/.", "/", "/"},
		{"/a/%2e%2E/b", "/b", "/b"},
		{"//a///b", "//a///b", "/a/b"},
		{"//evil.com/x", "//evil.com/x", "/evil.com/x"},
		{"/a//", "/a//", "/a/"},
		{"//", "//", "/"},
		{"/a//../b", "/a/b", "/a/b"},
		{"/a/..//b", "//b", "/b"},
		{"/get/https://x.test/%7Ey", "/get/https://x.test/%7Ey", "/get/https:/x.test/~y"},
		{"/a[1]", "/a[1]", "/a[1]"},
		{"/%61dmin", "/%61dmin", "/admin"},
		{"/a%2fb", "/a%2fb", "/a%2Fb"},
		{"/a%252Fb", "/a%252Fb", "/a%252Fb"},
		{"/a%3Db", "/a%3Db", "/a=b"},
		{"/a b|c", "/a%20b%7Cc", "/a b|c"},
		{"/caf\u00e9", "/caf%C3%A9", "/caf\u00e9"},
		{"/caf%c3%a9", "/caf%c3%a9", "/caf\u00e9"},
		{"/a;v=1/b", "/a;v=1/b", "/a;v=1/b"},
		{"/...", "/...", "/..."},
		{"/..a/.b", "/..a/.b", "/..a/.b"},
		{"/a%2Fb|c", "/a%2Fb%7Cc", "/a%2Fb|c"}, // net/url alone would send /a/b%7Cc
	} {
		got, err := CleanPath(test.in)
		if err != nil || got.Sent != test.sent || got.Match != test.match {
			t.Errorf("%s: sent %q, match %q, %v; want %q, %q", test.in, got.Sent, got.Match, err, test.sent, test.match)
		}
	}
}

func TestRefusedPaths(t *testing.T) {
	for in, want := range map[string]error{
		"":                     errPathNotAbsolute,
		"*":                    errPathNotAbsolute,
		"a/b":                  errPathNotAbsolute,
		"/..":                  errPathAboveRoot,
		"/a/../../b":           errPathAboveRoot,
		"/%2e%2e/etc":          errPathAboveRoot,
		"/a%zz":                ErrPathEscape,
		"/a%2":                 ErrPathEscape,
		"/a%00b":               errPathNUL,
		"/public/..%2fadmin":   errPathDisguised,
		"/public/%2e%2e%2fx":   errPathDisguised,
		"/public/..;/admin":    errPathDisguised,
		"/public/..;x=1/a":     errPathDisguised,
		"/public/..%3b/admin":  errPathDisguised,
		`/public/..\admin`:     errPathDisguised,
		"/public/..%5Cadmin":   errPathDisguised,
		"/public/%252e%252E/x": errPathDisguised,
		"/public/..%252fx":     errPathDisguised,
		"/public/..%3Fx":       errPathDisguised,
		"/public/..%23":        errPathDisguised,
	} {
		if got, err := CleanPath(in); err != want {
			t.Errorf("%s: %+v, %v; want %v", in, got, err, want)
		}
	}
}

// FuzzCleanURLPath holds what routing relies on: the result is stable, has no dot segments, and is what net/url
// puts on the wire.
func FuzzCleanURLPath(f *testing.F) {
	for _, seed := range []string{"/a/../b", "/%2e/", "/a%2Fb|c", "//x", "/..;a/%5c", "/\xff%FE ?#[]", "/a;b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		clean, err := CleanPath(in)
		if err != nil {
			return
		}
		again, err := CleanPath(clean.Sent)
		if err != nil || again != clean {
			t.Errorf("%q: %+v, then %+v, %v", in, clean, again, err)
		}
		for segment := range strings.SplitSeq(clean.Match[1:], "/") {
			if segment == "." || segment == ".." {
				t.Errorf("%q: dot segment in %q", in, clean.Match)
			}
		}
		decoded, err := url.PathUnescape(clean.Sent)
		if u := (&url.URL{Path: decoded, RawPath: clean.Sent}); err != nil || u.RequestURI() != clean.Sent {
			t.Errorf("%q: sent as %q, want %q, %v", in, decoded, clean.Sent, err)
		}
	})
}

func TestCleanQuery(t *testing.T) {
	for in, want := range map[string]string{
		"":                 "",
		"a=1;b=2&%zz":      "a=1;b=2&%zz", // not ours to judge
		"a b\r\nX: y\x00é": "a%20b%0D%0AX:%20y%00%C3%A9",
	} {
		if got := CleanQuery(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
