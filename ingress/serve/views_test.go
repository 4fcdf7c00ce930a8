package serve

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"svcplane/ingress/http1"
)

// TestViewsAgree: a policy sees the same of a request whether its head was read by hand or by net/http, or knows that it does
// not see it.
func TestViewsAgree(t *testing.T) {
	text := "PUT /a?q=1&r=%20&bad=%zz HTTP/1.1\r\nHost: h\r\nX-A: one\r\nX-A: two\r\nx-low: er\r\nCookie: at=1f; user=\"toad\"\r\nCookie: more=x\r\n" +
		"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=x\r\nTe: trailers\r\nX_Under: score\r\nContent-Length: 0\r\nUser-Agent: u\r\n\r\n"
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	var head http1.RequestHead
	if head.Parse([]byte(text)) != http1.HeadPlain {
		t.Fatal("the head is not plain")
	}
	want := httpView{r}
	got := &headView{head: &head, query: r.URL.RawQuery}
	if got.Method() != want.Method() {
		t.Errorf("method %q, want %q", got.Method(), want.Method())
	}
	for _, name := range []string{"at", "user", "more", "none"} {
		if got.Cookie(name) != want.Cookie(name) {
			t.Errorf("cookie %s: %q, want %q", name, got.Cookie(name), want.Cookie(name))
		}
	}
	for _, name := range []string{"q", "r", "bad", "none"} {
		if got.Query(name) != want.Query(name) {
			t.Errorf("parameter %s: %q, want %q", name, got.Query(name), want.Query(name))
		}
	}
	for _, name := range []string{"X-A", "X-Low", "User-Agent", "None"} {
		if got.Header(name) != want.Header(name) || got.blind {
			t.Errorf("header %s: %q, want %q", name, got.Header(name), want.Header(name))
		}
	}
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "Te", "X_Under", "Content-Length", "Connection", "Proxy-Authorization"} {
		got.blind = false
		if got.Header(name) != want.Header(name) && !got.blind {
			t.Errorf("header %s is not seen, and nobody knows", name)
		}
	}
}
