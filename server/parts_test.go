package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
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
