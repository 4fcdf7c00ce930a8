package preload

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// store takes what an Importer gives it: an archive whose content is "broken" or "full" is an error.
type store struct {
	mu    sync.Mutex
	tries map[string]int
	have  map[string]bool
}

func (s *store) add(_ context.Context, path string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := filepath.Base(path)
	s.tries[name]++
	raw, err := os.ReadFile(path)
	switch {
	case err != nil:
		return nil, err
	case string(raw) == "broken":
		return nil, errors.New("it is neither this nor that")
	case string(raw) == "full":
		return nil, syscall.ENOSPC
	}
	s.have[string(raw)] = true
	return []string{string(raw)}, nil
}

func (s *store) has(ref string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.have[ref]
}

func (s *store) tried(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries[name]
}

// lab is a directory with archives, and an Importer that is at them.
type lab struct {
	*store
	*Importer
	dir string
}

func start(t *testing.T, dir string, s *store) *lab {
	t.Helper()
	i := New(Config{Dir: filepath.Join(dir, "images"), State: filepath.Join(dir, "archives.json"), Import: s.add, Have: s.has})
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { i.Run(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	<-i.Looked()
	return &lab{s, i, i.cfg.Dir}
}

func newStore() *store { return &store{tries: map[string]int{}, have: map[string]bool{}} }

func (l *lab) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after a minute: %s", what)
		}
	}
}

func TestWhatIsWrittenIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "images"), 0o700)
	half, err := os.Create(filepath.Join(dir, "images", "before.tar")) // since before the start
	if err != nil {
		t.Fatal(err)
	}
	half.WriteString("bro")
	l := start(t, dir, newStore())
	late, err := os.Create(filepath.Join(l.dir, "late.tar.zst"))
	if err != nil {
		t.Fatal(err)
	}
	late.WriteString("brok")
	l.write(t, ".copied.tar.x7", "broken")
	l.write(t, "notes.txt", "broken")
	l.write(t, "whole.tgz", "whole")
	until(t, "whole.tgz is not imported", func() bool { return l.has("whole") })
	for _, name := range []string{"before.tar", "late.tar.zst", ".copied.tar.x7", "notes.txt"} {
		if l.tried(name) != 0 {
			t.Errorf("%s was tried", name)
		}
	}
	if l.Trouble() != "" {
		t.Error(l.Trouble())
	}
	half.WriteAt([]byte("first"), 0)
	half.Close()
	late.WriteAt([]byte("last"), 0)
	late.Close()
	os.Rename(filepath.Join(l.dir, ".copied.tar.x7"), filepath.Join(l.dir, "copied.tar.gz"))
	until(t, "what was closed is not imported", func() bool { return l.has("first") && l.has("last") })
	until(t, "what got its name is not tried", func() bool { return l.tried("copied.tar.gz") == 1 })
}

func TestABrokenOneIsToldOnce(t *testing.T) {
	l := start(t, t.TempDir(), newStore())
	l.write(t, "web.tar", "broken")
	until(t, "no trouble", func() bool { return strings.Contains(l.Trouble(), "web.tar of images is not imported: it is neither") })
	l.write(t, "other.tar", "other")
	until(t, "other.tar is not imported", func() bool { return l.has("other") })
	if n := l.tried("web.tar"); n != 1 {
		t.Errorf("the broken archive was tried %d times", n)
	}
	l.write(t, "web.tar.xz", "web")
	until(t, "what nobody unpacks is not told", func() bool { return strings.Contains(l.Trouble(), "web.tar.xz of images is not imported: only .tar") })
	os.Remove(filepath.Join(l.dir, "web.tar.xz"))
	l.write(t, "web.tar", "mended")
	until(t, "there is trouble for ever", func() bool { return l.Trouble() == "" })
	if !l.has("mended") {
		t.Error("the mended archive is not imported")
	}
}

func TestAFullDiskIsNoFault(t *testing.T) {
	l := start(t, t.TempDir(), newStore())
	l.write(t, "web.tar", "full")
	until(t, "no trouble", func() bool { return l.Trouble() != "" })
	l.mu2(func() {
		f := l.files["web.tar"]
		if f.retry.IsZero() || f.wait != firstWait {
			t.Errorf("it is never tried again: %+v", f)
		}
	})
}

func (l *lab) mu2(fn func()) {
	l.Importer.mu.Lock()
	defer l.Importer.mu.Unlock()
	fn()
}

func TestAfterARestart(t *testing.T) {
	dir, s := t.TempDir(), newStore()
	os.Mkdir(filepath.Join(dir, "images"), 0o700)
	os.WriteFile(filepath.Join(dir, "images", "a.tar"), []byte("a"), 0o600)
	os.WriteFile(filepath.Join(dir, "images", "b.tar"), []byte("b"), 0o600)
	t.Run("first", func(t *testing.T) { start(t, dir, s) })
	delete(s.have, "b") // by svcplane image rm
	start(t, dir, s)
	if s.tried("a.tar") != 1 || s.tried("b.tar") != 2 || !s.has("b") {
		t.Errorf("tries %v, there is %v", s.tries, s.have)
	}
}

func TestTheDirectoryIsMadeAnew(t *testing.T) {
	l := start(t, t.TempDir(), newStore())
	if err := os.Rename(l.dir, l.dir+".away"); err != nil {
		t.Fatal(err)
	}
	until(t, "there is no directory", func() bool { _, err := os.Stat(l.dir); return err == nil })
	l.write(t, "web.tar", "web")
	until(t, "web.tar is not imported", func() bool { return l.has("web") })
}
