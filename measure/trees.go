package measure

import (
	"context"
	"sync"
	"time"
)

// Trees measures folders in the background, those that somebody asks for: whoever asks gets what was found last and never
// waits for a disk.
type Trees struct {
	age    time.Duration
	queued chan string

	mu   sync.Mutex
	seen map[string]*seen
}

type seen struct {
	tree        Tree
	at, asked   time.Time // at is zero: it was not measured yet
	outstanding bool
}

const (
	// forgetAfter is how many ages nobody asks for a folder until it is forgotten.
	forgetAfter = 10
	// rest is how many times longer the disk has peace than a walk took.
	rest = 9
	// waitingFolders is how many folders may wait to be measured; those above that are asked for again.
	waitingFolders = 4096
)

// NewTrees makes Trees whose figures are age old, or somewhat older if walks take long.
func NewTrees(age time.Duration) *Trees {
	return &Trees{age: age, queued: make(chan string, waitingFolders), seen: map[string]*seen{}}
}

// Get is what was found last below a folder, and when; ok is false if it was never measured.
func (t *Trees) Get(root string) (tree Tree, at time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	s := t.seen[root]
	if s == nil {
		s = &seen{}
		t.seen[root] = s
	}
	s.asked = now
	if !s.outstanding && now.Sub(s.at) >= t.age {
		select {
		case t.queued <- root:
			s.outstanding = true
		default:
		}
	}
	return s.tree, s.at, !s.at.IsZero()
}

// Run measures, one folder after the other, until ctx ends.
func (t *Trees) Run(ctx context.Context) {
	sweep := time.NewTicker(forgetAfter * t.age)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			t.forget()
		case root := <-t.queued:
			begin := time.Now()
			tree, err := ReadTree(ctx, root)
			t.found(root, tree, err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(rest * time.Since(begin)):
			}
		}
	}
}

func (t *Trees) found(root string, tree Tree, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.seen[root]
	if s == nil {
		return
	}
	s.outstanding = false
	if err != nil { // it has gone, most of the time
		delete(t.seen, root)
		return
	}
	s.tree, s.at = tree, time.Now()
}

func (t *Trees) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for root, s := range t.seen {
		if !s.outstanding && time.Since(s.asked) > forgetAfter*t.age {
			delete(t.seen, root)
		}
	}
}
