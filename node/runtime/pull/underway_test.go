package pull

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestUnderway: others see a pull while it goes on, and neither one that has ended nor what a crash has left.
func TestUnderway(t *testing.T) {
	f := newRegistry(t)
	ref, _ := f.push(t, "web:1", 50_000, 1)
	reached, goOn := make(chan struct{}), make(chan struct{})
	f.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if isBlob(r) {
			select {
			case <-reached:
			default:
				close(reached)
			}
			<-goOn
		}
		next.ServeHTTP(w, r)
	})
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "stale"+underwaySuffix), []byte(`{"ref":"stale"}`), 0o600))
	done := make(chan error, 1)
	go func() {
		_, err := New(Config{Dir: dir}).Pull(context.Background(), request(ref))
		done <- err
	}()
	<-reached
	if got := ListUnderway(dir); len(got) != 1 || got[0].Ref != ref.Name() || got[0].Began.IsZero() {
		t.Errorf("going on: %+v", got)
	}
	close(goOn)
	must(t, <-done)
	if got := ListUnderway(dir); len(got) != 0 {
		t.Errorf("after its end: %+v", got)
	}
}
