package pull

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// answer gives what the registry would answer.
func answer(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	whole := httptest.NewRecorder()
	next.ServeHTTP(whole, r)
	return whole
}

// TestLyingHeaders: whatever a registry says in its headers, an image is what its digest says, or it is refused with a line
// that names the registry.
func TestLyingHeaders(t *testing.T) {
	f := newRegistry(t)
	ref, want := f.push(t, "web:1", 50_000, 1)
	blobs := func(change func(h http.Header, body []byte) int) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !isBlob(r) {
				next.ServeHTTP(w, r)
				return
			}
			r.Header.Del("Range")
			whole := answer(r, next)
			code := change(w.Header(), whole.Body.Bytes())
			w.WriteHeader(code)
			_, _ = w.Write(whole.Body.Bytes()) // the client may be gone
		}
	}
	manifests := func(change func(h http.Header, body []byte) (int, []byte)) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				next.ServeHTTP(w, r)
				return
			}
			whole := answer(r, next)
			for key, values := range whole.Header() {
				w.Header()[key] = values
			}
			code, body := change(w.Header(), whole.Body.Bytes())
			w.Header().Del("Content-Length")
			w.WriteHeader(code)
			_, _ = w.Write(body) // the client may be gone
		}
	}
	other := "sha256:" + strings.Repeat("0", 64)
	for _, test := range []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request, http.Handler)
		wants string // of the error; empty: the image is right all the same
	}{
		{"a length that is too short", blobs(func(h http.Header, b []byte) int { h.Set("Content-Length", "7"); return 200 }), "EOF"},
		{"a length that is too long", blobs(func(h http.Header, b []byte) int { h.Set("Content-Length", fmt.Sprint(len(b)+5)); return 200 }), ""},
		{"a part that was not asked for", blobs(func(h http.Header, b []byte) int { h.Set("Content-Range", "bytes 5-9/10"); return 206 }), `the registry sent the range "bytes 5-9/10" and was asked for bytes from 0 on`},
		{"a part that is none", blobs(func(h http.Header, b []byte) int { h.Set("Content-Range", "elephants -1-/*"); return 206 }), "was asked for bytes from 0 on"},
		{"a part without a range", blobs(func(h http.Header, b []byte) int { return 206 }), "was asked for bytes from 0 on"},
		{"the whole as a part", blobs(func(h http.Header, b []byte) int { h.Set("Content-Range", "bytes 0-1/99999999999999"); return 206 }), ""},
		{"a blob of another type", blobs(func(h http.Header, b []byte) int { h.Set("Content-Type", "text/html"); return 200 }), ""},
		{"a blob of another digest", blobs(func(h http.Header, b []byte) int { h.Set("Docker-Content-Digest", other); return 200 }), ""},
		{"a blob that says it is compressed", blobs(func(h http.Header, b []byte) int { h.Set("Content-Encoding", "gzip"); return 200 }), ""},
		{"a range that ends behind the end", blobs(func(h http.Header, b []byte) int { return http.StatusRequestedRangeNotSatisfiable }), "has less of it than the manifest says"},
		{"a redirect to itself", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !isBlob(r) {
				next.ServeHTTP(w, r)
				return
			}
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, "stopped after 10 redirects"},
		{"a redirect to a file", func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !isBlob(r) {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, "unsupported protocol scheme"},
		{"a Retry-After of centuries", blobs(func(h http.Header, b []byte) int { h.Set("Retry-After", "99999999999"); return 503 }), "503"},
		{"a Retry-After before Christ", blobs(func(h http.Header, b []byte) int { h.Set("Retry-After", "-5"); return 503 }), "503"},
		{"a manifest of another digest", manifests(func(h http.Header, b []byte) (int, []byte) { h.Set("Docker-Content-Digest", other); return 200, b }), ""},
		{"a manifest that is a page", manifests(func(h http.Header, b []byte) (int, []byte) {
			h.Set("Content-Type", "text/html")
			return 200, []byte("<html>Please log in</html>")
		}), "text/html"},
		{"a manifest without end", manifests(func(h http.Header, b []byte) (int, []byte) {
			return 200, make([]byte, 20<<20)
		}), "longer than 8388608 bytes"},
		{"an error without end, that moves the cursor", manifests(func(h http.Header, b []byte) (int, []byte) {
			return 403, []byte(`{"errors":[{"code":"DENIED","message":"\u001b[2J` + strings.Repeat("no ", 10_000) + `"}]}`)
		}), "DENIED:  [2Jno no no"},
		{"a manifest that lists no layers", manifests(func(h http.Header, b []byte) (int, []byte) { return 200, []byte(`{"schemaVersion":2}`) }), "digest"},
		{"a manifest with a digest that is a path", manifests(func(h http.Header, b []byte) (int, []byte) {
			return 200, []byte(strings.Replace(string(b), "sha256:", "sha256:../../", 1))
		}), "non-hex character"},
		{"a manifest with a negative size", manifests(func(h http.Header, b []byte) (int, []byte) {
			return 200, []byte(strings.Replace(string(b), `"size":`, `"size":-`, 1))
		}), "bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.with(test.fault)
			dir := t.TempDir()
			p := New(Config{Dir: dir})
			p.wait = time.Millisecond
			got, err := p.Pull(context.Background(), request(ref))
			if test.wants == "" {
				must(t, err)
				same(t, got, want)
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.wants) || !strings.Contains(err.Error(), f.host) || strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 1000 {
				t.Errorf("%.1500v; want %q", err, test.wants)
			}
			f.with(ranged)
			got, err = New(Config{Dir: dir}).Pull(context.Background(), request(ref))
			must(t, err)
			same(t, got, want)
		})
	}
}

// smallDisk mounts a file system of its own, as large as size says.
func smallDisk(t *testing.T, size string) (dir string, resize func(string)) {
	t.Helper()
	dir = t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir, func(size string) { must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size="+size)) }
}

// TestFullDisk: what the disk has no room for fails with the reason and is gone, smaller images are fetched, and all is well
// when there is room.
func TestFullDisk(t *testing.T) {
	f := newRegistry(t)
	f.with(ranged)
	large, wantLarge := f.push(t, "large:1", 24<<20, 1)
	small, wantSmall := f.push(t, "small:1", 10_000, 1)
	dir, resize := smallDisk(t, "16m")
	p := New(Config{Dir: filepath.Join(dir, "blobs")})
	_, err := p.Pull(context.Background(), request(large))
	if err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) || !strings.Contains(err.Error(), "make room on the disk of "+dir) || !strings.Contains(err.Error(), "layer 1 of 1 (sha256:") {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "blobs", "*.part")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	got, err := p.Pull(context.Background(), request(small))
	must(t, err)
	same(t, got, wantSmall)
	resize("64m")
	got, err = p.Pull(context.Background(), request(large))
	must(t, err)
	same(t, got, wantLarge)
}

// TestTidyLeavesWhatIsUsed: a part that somebody goes on with stays, however old it is.
func TestTidyLeavesWhatIsUsed(t *testing.T) {
	dir := t.TempDir()
	held, err := os.Create(filepath.Join(dir, "sha256-a.part"))
	must(t, err)
	defer held.Close()
	must(t, unix.Flock(int(held.Fd()), unix.LOCK_EX))
	must(t, os.WriteFile(filepath.Join(dir, "sha256-b.part"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "sha256-c"), nil, 0o600))
	must(t, Tidy(dir, -time.Second))
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != "sha256-a.part" {
		t.Errorf("left: %v", left)
	}
}
