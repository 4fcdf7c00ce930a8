package ingress

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

func TestReadTimeout(t *testing.T) {
	hold := make(chan bool)
	defer close(hold)
	w := guarded(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			fmt.Fprint(w, "part")
			_ = http.NewResponseController(w).Flush()
		}
		<-hold
	}, map[string]string{"proxy-read-timeout": "200ms"})
	if resp, _ := w.request("GET", "/head", nil); resp.StatusCode != 504 {
		t.Errorf("an answer that does not begin: %d", resp.StatusCode)
	}
	req, err := http.NewRequest("GET", "http://"+w.plain+"/body", nil)
	w.must(err)
	req.Host = "toad"
	resp, err := direct.Do(req)
	w.must(err)
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("an answer that stops in the middle ended well")
	}
}

// TestSendTimeout: an endpoint that does not take the body ends the request; a client that is slow does not, as long as
// that.
func TestSendTimeout(t *testing.T) {
	t.Parallel()
	hold := make(chan bool)
	defer close(hold)
	w := guarded(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stuck" {
			<-hold
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}, map[string]string{"proxy-send-timeout": "2s"})
	ask := func(path string, body io.Reader) (*http.Response, string) {
		req, err := http.NewRequest("POST", "http://"+w.plain+path, body)
		w.must(err)
		req.Host = "toad"
		return w.do(direct, req)
	}
	if resp, body := ask("/stuck", io.LimitReader(zeros{}, 1<<30)); resp.StatusCode != 504 {
		t.Errorf("an endpoint that takes nothing: %d %q", resp.StatusCode, body)
	}
	slow, feed := io.Pipe()
	go func() {
		for range 2 {
			_, _ = feed.Write([]byte("part"))   // the answer tells whether it came
			time.Sleep(2200 * time.Millisecond) // longer than an endpoint may take
		}
		feed.Close()
	}()
	if resp, body := ask("/taken", slow); resp.StatusCode != 200 || body != "8 <nil>" {
		t.Errorf("a slow client: %d %q", resp.StatusCode, body)
	}
}

// zeros are without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
