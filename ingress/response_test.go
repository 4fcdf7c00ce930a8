package ingress

import (
	"strings"
	"testing"
)

// TestWholeURLs: a request for a whole URL, as clients of a proxy send it, is one for its path, which may be missing.
func TestWholeURLs(t *testing.T) {
	w := wireWorld(t, func(*Config) {})
	for url, want := range map[string]string{
		"http://toad": "/", "http://toad?a=b": "/?a=b", "http://toad/a//b?c": "/a//b?c", "http://toad/admin": "403",
	} {
		for _, more := range []string{"", "Connection: x-nothing\r\n"} {
			got := w.raw("GET " + url + " HTTP/1.1\r\nHost: toad\r\n" + more + "\r\nGET / HTTP/1.1\r\nHost: x y\r\n\r\n")
			_, body, _ := strings.Cut(got, "\r\n\r\n")
			if saw, _, _ := strings.Cut(body, " "); saw != want && !strings.HasPrefix(got, "HTTP/1.1 "+want) {
				t.Errorf("%s with %q: %q, want %s", url, more, got, want)
			}
		}
	}
}
