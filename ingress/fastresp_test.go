package ingress

import (
	"strings"
	"testing"
)

// TestAnswersWithoutBody: an answer that has no body announces none, whatever the endpoint says: Python's client waits for the
// chunks of a 204. What the endpoint sends behind it is not the next answer.
func TestAnswersWithoutBody(t *testing.T) {
	for _, tt := range []struct {
		status, fields, want string
		close                bool
	}{
		{"204 No Content", "Transfer-Encoding: chunked\r\n", "", true},
		{"204 No Content", "Trailer: X\r\nTransfer-Encoding: chunked\r\n", "", true},
		{"204 No Content", "Content-Length: 5\r\nX: y\r\n", "X: y\r\n", true},
		{"204 No Content", "Content-Length: 0\r\n", "", false},
		{"103 Early Hints", "Content-Length: 0\r\nLink: </a>\r\n", "Link: </a>\r\n", false},
		{"304 Not Modified", "Transfer-Encoding: chunked\r\n", "", true},
		{"304 Not Modified", "Content-Length: 5\r\n", "Content-Length: 5\r\n", false},
		{"200 OK", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n", false},
		{"200 OK", "Content-Length: 5\r\n", "Content-Length: 5\r\n", false},
	} {
		var h answerHead
		if done, err := h.parse([]byte("HTTP/1.1 " + tt.status + "\r\n" + tt.fields + "\r\n")); !done || err != nil {
			t.Fatalf("%s with %q: %v, %v", tt.status, tt.fields, done, err)
		}
		want := "HTTP/1.1 " + tt.status + "\r\n" + tt.want + "\r\n"
		if got := string(h.appendTo(nil, false)); got != want || h.close != tt.close {
			t.Errorf("%s with %q: %q, the connection ends: %v; want %q, %v", tt.status, tt.fields, got, h.close, want, tt.close)
		}
	}
}

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
