package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakePart records its life in a diary.
type fakePart struct {
	name  string
	diary *diary
	ready chan struct{}
	fail  chan error
}

type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) write(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func newFake(name string, d *diary) *fakePart {
	return &fakePart{name: name, diary: d, ready: make(chan struct{}), fail: make(chan error, 1)}
}

func (f *fakePart) Run(ctx context.Context) error {
	f.diary.write("start " + f.name)
	close(f.ready)
	select {
	case <-ctx.Done():
		f.diary.write("stop " + f.name)
		return nil
	case err := <-f.fail:
		return err
	}
}
func (f *fakePart) Ready() <-chan struct{} { return f.ready }
func (f *fakePart) Figure() string         { return "fine" }

func TestPartsStopInReverse(t *testing.T) {
	var d diary
	ps := newParts()
	ctx, cancel := context.WithCancel(context.Background())
	for _, name := range []string{"a", "b", "c"} {
		if err := ps.start(ctx, name, newFake(name, &d)); err != nil {
			t.Fatal(err)
		}
	}
	cancel() // the signal ends no part by itself
	if err := ps.wait(ctx); err != nil {
		t.Fatal(err)
	}
	ps.stop()
	if want := []string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}; !slices.Equal(d.lines, want) {
		t.Errorf("got %v, want %v", d.lines, want)
	}
}

func TestFailedPartIsNamed(t *testing.T) {
	var d diary
	ps := newParts()
	good, bad := newFake("good", &d), newFake("bad", &d)
	for _, p := range []*fakePart{good, bad} {
		if err := ps.start(t.Context(), p.name, p); err != nil {
			t.Fatal(err)
		}
	}
	bad.fail <- errors.New("disk full")
	if err := ps.wait(t.Context()); err == nil || err.Error() != "bad: disk full" {
		t.Errorf("got %v", err)
	}
	status := ps.status()
	if status[0].State != "serving" || status[1].State != "failed" || !strings.Contains(status[1].Figure, "disk full") {
		t.Errorf("got %+v", status)
	}
	ps.stop()
}

// A server that has just begun to start serves nothing, whatever of it is ready.
func TestStatusNamesWhatWaits(t *testing.T) {
	var d diary
	ps := newParts()
	ps.expect("first")
	ps.expect("second")
	if err := ps.start(t.Context(), "first", newFake("first", &d)); err != nil {
		t.Fatal(err)
	}
	status := ps.status()
	if len(status) != 2 || status[0].State != "serving" || status[1].Part != "second" || status[1].State != "waiting" {
		t.Errorf("got %+v", status)
	}
	ps.stop()
}

func TestStartGivesUpWhenAnEarlierPartFails(t *testing.T) {
	var d diary
	ps := newParts()
	first := newFake("first", &d)
	if err := ps.start(t.Context(), "first", first); err != nil {
		t.Fatal(err)
	}
	first.fail <- errors.New("gone")
	never := stuckPart{newFake("never", &d)}
	if err := ps.start(t.Context(), "never", never); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("got %v", err)
	}
	ps.stop()
}

// stuckPart runs and never serves.
type stuckPart struct{ *fakePart }

func (stuckPart) Ready() <-chan struct{} { return nil }

func TestDataDirectoryHasOneOwner(t *testing.T) {
	top := filepath.Join(t.TempDir(), "made")
	dir := filepath.Join(top, "here")
	first, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory %v, %v", info, err)
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "belongs to a running svcplane (pid ") {
		t.Errorf("second owner: %v", err)
	}
	first.abandon()
	if _, err := os.Stat(top); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("abandoned directory is still there: %v", err)
	}
	if err := os.WriteFile(top, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a file in the way: %v", err)
	}
}

func TestAbandonKeepsWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "precious")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.abandon()
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}

func TestBootLogHoldsUntilOpened(t *testing.T) {
	var out bytes.Buffer
	log := &bootLog{to: &out, quiet: true}
	log.Write([]byte("chatter\n"))
	if out.Len() > 0 {
		t.Errorf("said %q while starting", &out)
	}
	log.spill()
	if out.String() != "chatter\n" {
		t.Errorf("a failed start shows %q", &out)
	}
	log.open()
	log.Write([]byte("news\n"))
	if !strings.HasSuffix(out.String(), "news\n") {
		t.Errorf("got %q", &out)
	}
}

func TestAskWithoutServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dir := t.TempDir()
	err := ask(ctx, dir, "GET", "/status", nil, nil, nil)
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "svcplane server") {
		t.Errorf("got %v", err)
	}
}

// lacking is a part that serves, but not all that it should.
type lacking struct{ *fakePart }

func (lacking) Trouble() string { return "a link is down: bring it up" }

func TestAPartThatLacksSomethingSaysSo(t *testing.T) {
	ps := newParts()
	if err := ps.start(context.Background(), "a", lacking{newFake("a", &diary{})}); err != nil {
		t.Fatal(err)
	}
	defer ps.stop()
	if got := ps.status(); len(got) != 1 || got[0].State != "degraded" || got[0].Figure != "fine: a link is down: bring it up" {
		t.Errorf("got %+v", got)
	}
}
