package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// faulty is a registry whose answers about blobs can be spoilt.
type faulty struct {
	*httptest.Server
	host string

	mu    sync.Mutex
	spoil func(w http.ResponseWriter, r *http.Request, next http.Handler)
	asked []string // method and path of every request
}

func newRegistry(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{}
	inner := registry.New(registry.Logger(nopLog()))
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, r.Method+" "+r.URL.Path)
		spoil := f.spoil
		f.mu.Unlock()
		if spoil != nil {
			spoil(w, r, inner)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	f.host = strings.TrimPrefix(f.URL, "http://")
	return f
}

func (f *faulty) with(spoil func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spoil = spoil
}

// cut ends the connection after so many octets of a body.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left]) // the client may be gone
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func isBlob(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

// push puts an image with some layers into a registry.
func (f *faulty) push(t *testing.T, path string, size int64, layers int64) (name.Reference, v1.Image) {
	t.Helper()
	img, err := random.Image(size, layers)
	must(t, err)
	ref, err := name.ParseReference(f.host + "/" + path)
	must(t, err)
	must(t, remote.Write(ref, img))
	return ref, img
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func request(ref name.Reference) Request {
	none := func(v1.Hash) bool { return false }
	return Request{Ref: ref, HaveImage: none, HaveLayer: none, Choose: func(i v1.ImageIndex) (v1.Image, error) {
		m, err := i.IndexManifest()
		if err != nil {
			return nil, err
		}
		for _, d := range m.Manifests {
			if d.Platform != nil && d.Platform.Architecture == runtime.GOARCH {
				return i.Image(d.Digest)
			}
		}
		return nil, errors.New("none for this machine")
	}}
}

// same compares what was fetched with what was pushed, to the last bit.
func same(t *testing.T, got *Fetched, want v1.Image) {
	t.Helper()
	must(t, validate.Image(got.Image))
	a, err := got.Image.Digest()
	must(t, err)
	b, err := want.Digest()
	must(t, err)
	if a != b {
		t.Errorf("fetched %s, want %s", a, b)
	}
}

func TestPull(t *testing.T) {
	f := newRegistry(t)
	ref, want := f.push(t, "team/web:1", 100_000, 5)
	p := New(Config{Dir: t.TempDir()})
	var last, total atomic.Int64
	r := request(ref)
	r.Progress = func(done, all int64) { last.Store(max(last.Load(), done)); total.Store(all) }
	got, err := p.Pull(context.Background(), r)
	must(t, err)
	same(t, got, want)
	if last.Load() != total.Load() || total.Load() != got.Size || got.Size < 500_000 {
		t.Errorf("progress ended at %d of %d, the image has %d", last.Load(), total.Load(), got.Size)
	}
	got.Discard()
	if left, _ := os.ReadDir(p.cfg.Dir); len(left) != 0 { // an error is no entries
		t.Errorf("%d blobs are left", len(left))
	}
	r.HaveImage = func(id v1.Hash) bool { return id == got.ID }
	f.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if isBlob(r) {
			t.Errorf("a blob of an image that is there is asked for: %s", r.URL)
		}
		next.ServeHTTP(w, r)
	})
	if again, err := p.Pull(context.Background(), r); err != nil || !again.Present || again.ID != got.ID {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestIndex: of an index the image for this machine is fetched, and the digest is the index's.
func TestIndex(t *testing.T) {
	f := newRegistry(t)
	ours, err := random.Image(1000, 2)
	must(t, err)
	other, err := random.Image(1000, 2)
	must(t, err)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: ours, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}}})
	ref, err := name.ParseReference(f.host + "/team/web:1")
	must(t, err)
	must(t, remote.WriteIndex(ref, index))
	got, err := New(Config{Dir: t.TempDir()}).Pull(context.Background(), request(ref))
	must(t, err)
	same(t, got, ours)
	if want, err := index.Digest(); err != nil || got.Digest != want {
		t.Errorf("digest %s, want %s", got.Digest, want)
	}
}

// TestCutLink: a link that is cut again and again costs hardly more than one that is not, and so does another process.
func TestCutLink(t *testing.T) {
	f := newRegistry(t)
	const size, layers = 2_000_000, 3
	ref, want := f.push(t, "web:1", size, layers)
	var cuts atomic.Int64
	dir := t.TempDir()
	f.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if isBlob(r) && r.ContentLength <= 0 {
			cuts.Add(1)
			w = &cut{w, 300_000}
		}
		ranged(w, r, next)
	})
	ctx, cancel := context.WithCancel(context.Background())
	r := request(ref)
	r.Progress = func(done, _ int64) {
		if done > size {
			cancel() // as if it was killed: what is on the disk is what the next one has
		}
	}
	if _, err := New(Config{Dir: dir}).Pull(ctx, r); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	first := int64(0)
	left, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range left {
		info, err := e.Info()
		must(t, err)
		first += info.Size()
	}
	got, err := New(Config{Dir: dir}).Pull(context.Background(), request(ref))
	must(t, err)
	same(t, got, want)
	if first == 0 || first+got.Came > got.Size*105/100 {
		t.Errorf("%d and %d octets were fetched of %d", first, got.Came, got.Size)
	}
	if cuts.Load() < 15 {
		t.Errorf("the link was cut %d times", cuts.Load())
	}
}

// ranged serves ranges, which the registry of the tests does not: it reads a whole answer, and sends a part.
func ranged(w http.ResponseWriter, r *http.Request, next http.Handler) {
	text := r.Header.Get("Range")
	if text == "" {
		next.ServeHTTP(w, r)
		return
	}
	whole := httptest.NewRecorder()
	r = r.Clone(r.Context())
	r.Header.Del("Range")
	next.ServeHTTP(whole, r)
	var from int
	_, _ = fmt.Sscanf(text, "bytes=%d-", &from) // 0 is the whole
	body := whole.Body.Bytes()
	if from >= len(body) {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(body[from:]) // the client may be gone
}

// TestLies: what a registry says falsely is refused by name, and leaves nothing that a later pull would believe.
func TestLies(t *testing.T) {
	f := newRegistry(t)
	ref, want := f.push(t, "web:1", 50_000, 1)
	once := func(fault func(w http.ResponseWriter, r *http.Request, next http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) {
		var done atomic.Bool
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if isBlob(r) && done.CompareAndSwap(false, true) {
				fault(w, r, next)
				return
			}
			ranged(w, r, next)
		}
	}
	always := func(fault func(w http.ResponseWriter, r *http.Request, next http.Handler)) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if isBlob(r) {
				fault(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		}
	}
	status := func(code int, header ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"because %d"}]}`, code)
		}
	}
	for _, test := range []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request, http.Handler)
		wants string // of the error; empty: it is got over
	}{
		{"another digest", always(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			whole := httptest.NewRecorder()
			next.ServeHTTP(whole, r)
			_, _ = w.Write(bytes.Repeat([]byte{1}, whole.Body.Len())) // the client may be gone
		}), "corrupt"},
		{"shorter always", always(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { _, _ = w.Write([]byte("short")) }), "ended after 5 of"},
		{"endless", always(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}), "longer than"},
		{"403", always(status(403)), "because 403"},
		{"404", always(status(404)), "because 404"},
		{"429 for an hour", always(status(429, "Retry-After", "3600")), "because 429"},
		{"429 for a second", once(status(429, "Retry-After", "1")), ""},
		{"503 once", once(status(503)), ""},
		{"reset once", once(func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }), ""},
		{"shorter once", once(func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(&cut{w, 100}, r) }), ""},
		{"no ranges", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			r.Header.Del("Range")
			next.ServeHTTP(w, r)
		}, ""},
		{"no ranges, and a link that always breaks", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Del("Range"); isBlob(r) {
				w = &cut{w, 20_000}
			}
			next.ServeHTTP(w, r)
		}, "EOF"},
		{"a redirect to a blob store", redirecting(t), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.with(test.fault)
			dir := t.TempDir()
			p := New(Config{Dir: dir})
			p.wait = 10 * time.Millisecond
			got, err := p.Pull(context.Background(), request(ref))
			if test.wants == "" {
				must(t, err)
				same(t, got, want)
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.wants) || !strings.Contains(err.Error(), f.host) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want %q", err, test.wants)
			}
			f.with(ranged)
			got, err = New(Config{Dir: dir}).Pull(context.Background(), request(ref))
			must(t, err)
			same(t, got, want)
		})
	}
}

// redirecting sends who asks for a blob to another server, which gets no credentials.
func redirecting(t *testing.T) func(http.ResponseWriter, *http.Request, http.Handler) {
	var next atomic.Value
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("the blob store gets the credentials")
		}
		next.Load().(http.Handler).ServeHTTP(w, r)
	}))
	t.Cleanup(store.Close)
	return func(w http.ResponseWriter, r *http.Request, h http.Handler) {
		next.Store(http.HandlerFunc(h.ServeHTTP))
		if isBlob(r) {
			http.Redirect(w, r, store.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
		h.ServeHTTP(w, r)
	}
}

// TestCorruptPart: a part that a power cut has spoilt costs one more try, not the image.
func TestCorruptPart(t *testing.T) {
	f := newRegistry(t)
	ref, want := f.push(t, "web:1", 50_000, 1)
	f.with(ranged)
	dir := t.TempDir()
	layers, err := want.Layers()
	must(t, err)
	digest, err := layers[0].Digest()
	must(t, err)
	must(t, os.WriteFile(blobPath(dir, digest)+".part", make([]byte, 20_000), 0o600))
	got, err := New(Config{Dir: dir}).Pull(context.Background(), request(ref))
	must(t, err)
	same(t, got, want)
}

// TestMirrors: mirrors come first, under the names that they have for things; the credentials of a pod are not for them.
func TestMirrors(t *testing.T) {
	dead, mirror, own := newRegistry(t), newRegistry(t), newRegistry(t)
	dead.Close()
	_, want := mirror.push(t, "cache/team/web:1", 1000, 1)
	mirror.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if user, _, _ := r.BasicAuth(); user != "" {
			t.Errorf("the mirror gets the credentials of %s", user)
		}
		next.ServeHTTP(w, r)
	})
	file := filepath.Join(t.TempDir(), "registries.yaml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `
mirrors:
  %s:
    endpoint: ["http://%s", "http://%s/v2"]
    rewrite:
      "^team/(.*)": "cache/team/$1"
`, own.host, dead.host, mirror.host), 0o600))
	ref, err := name.ParseReference(own.host + "/team/web:1")
	must(t, err)
	r := request(ref)
	r.Auth = &authn.AuthConfig{Username: "toad", Password: "secret"}
	p := New(Config{Dir: t.TempDir(), Registries: file})
	got, err := p.Pull(context.Background(), r)
	must(t, err)
	same(t, got, want)
	if len(own.asked) != 0 {
		t.Errorf("the registry itself was asked: %v", own.asked)
	}
	must(t, os.WriteFile(file, []byte("mirrors: {}\n"), 0o600)) // read again
	if _, err := p.Pull(context.Background(), r); err == nil || !strings.Contains(err.Error(), "NAME_UNKNOWN") && !strings.Contains(err.Error(), "MANIFEST_UNKNOWN") {
		t.Errorf("without the mirror: %v", err)
	}
	must(t, os.WriteFile(file, []byte("mirors: {}\n"), 0o600))
	if _, err := p.Pull(context.Background(), r); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "mirors") {
		t.Errorf("a mistake in the file: %v", err)
	}
}

// TestLogin: credentials of the pod, of the file, and none.
func TestLogin(t *testing.T) {
	f := newRegistry(t)
	ref, want := f.push(t, "web:1", 1000, 1)
	f.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if user, password, _ := r.BasicAuth(); user != "toad" || password != "hall" {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`)
			return
		}
		next.ServeHTTP(w, r)
	})
	file := filepath.Join(t.TempDir(), "registries.yaml")
	must(t, os.WriteFile(file, fmt.Appendf(nil, "configs:\n  %q:\n    auth: {username: toad, password: hall}\n", f.host), 0o600))
	for _, test := range []struct {
		name, file string
		auth       *authn.AuthConfig
		wants      string
	}{
		{"of the pod", "", &authn.AuthConfig{Username: "toad", Password: "hall"}, ""},
		{"of the file", file, nil, ""},
		{"wrong", "", &authn.AuthConfig{Username: "toad", Password: "hole"}, "who are you"},
		{"none", "", nil, "who are you"},
	} {
		r := request(ref)
		r.Auth = test.auth
		got, err := New(Config{Dir: t.TempDir(), Registries: test.file}).Pull(context.Background(), r)
		switch {
		case test.wants == "":
			must(t, err)
			same(t, got, want)
		case err == nil || !strings.Contains(err.Error(), test.wants):
			t.Errorf("%s: %v, want %q", test.name, err, test.wants)
		}
	}
}

// TestPlainHTTP: a registry on the network is asked without TLS only if its endpoint says so.
func TestPlainHTTP(t *testing.T) {
	ref, err := name.ParseReference("10.255.255.1:5000/web:1")
	must(t, err)
	e, err := (&Registries{}).endpoints(ref)
	must(t, err)
	req := httptest.NewRequest("GET", "http://10.255.255.1:5000/v2/", nil)
	if _, err := (atPath{&e[0], http.DefaultTransport}).RoundTrip(req); err == nil || !strings.Contains(err.Error(), "https only") {
		t.Errorf("%v", err)
	}
}
