package preload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"svcplane/disk"
)

// Config is what an Importer needs.
type Config struct {
	Dir   string // of the archives; made if missing
	State string // the file that says what was imported
	// Import stores all images of an archive and gives their names, also beside an error.
	Import func(ctx context.Context, path string) ([]string, error)
	Have   func(ref string) bool // whether the store has an image of that name
}

const (
	lookEvery = time.Minute
	// settle is how long a file has to stay as it is where the file system cannot say whether it is being written.
	settle              = 3 * time.Second
	firstWait, longWait = time.Minute, 10 * time.Minute
)

// Importer imports archives.
type Importer struct {
	cfg   Config
	ready chan struct{}
	again *time.Timer

	mu    sync.Mutex
	files map[string]*file // by name
}

// stamp tells one state of a file from another.
type stamp struct {
	Size     int64 `json:"size"`
	Modified int64 `json:"modified"` // in nanoseconds of Unix
}

// file is what is known of one archive.
type file struct {
	stamp
	Images []string `json:"images,omitempty"`

	failed string        // why it, or a part of it, was not imported; it is tried again when it changes
	retry  time.Time     // unless this is set
	wait   time.Duration // before the retry after that
}

// New makes an Importer that has not looked yet.
func New(cfg Config) *Importer {
	return &Importer{cfg: cfg, ready: make(chan struct{}), again: time.NewTimer(lookEvery), files: map[string]*file{}}
}

// Looked is closed when the archives that were there at the start are imported, or cannot be.
func (i *Importer) Looked() <-chan struct{} { return i.ready }

// Trouble names the archives that are not imported, and says why; empty: none.
func (i *Importer) Trouble() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(i.files)) {
		if why := i.files[name].failed; why != "" {
			all = append(all, why)
		}
	}
	return strings.Join(all, "; ")
}

// Run imports until ctx ends.
func (i *Importer) Run(ctx context.Context) {
	defer i.again.Stop()
	i.read()
	for first := true; ctx.Err() == nil; first = false {
		changed := i.begin(ctx)
		i.look(ctx)
		if first {
			close(i.ready)
		}
		i.follow(ctx, changed)
	}
}

// begin watches the directory; where it cannot, the clock alone has it looked at.
func (i *Importer) begin(ctx context.Context) <-chan struct{} {
	if err := os.MkdirAll(i.cfg.Dir, 0o700); err != nil {
		klog.V(2).InfoS("Making the directory for archives of images", "err", err)
		return nil
	}
	changed, err := watch(ctx, i.cfg.Dir)
	if err != nil {
		klog.V(2).InfoS("Watching for archives of images; they are looked for once a minute", "err", err)
		return nil
	}
	return changed
}

// follow looks when something changed, and now and then, until the directory goes.
func (i *Importer) follow(ctx context.Context, changed <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-changed:
			if !ok {
				select { // somebody is about to make it anew
				case <-ctx.Done():
				case <-time.After(settle):
				}
				return
			}
		case <-i.again.C:
			if changed == nil {
				return
			}
		}
		i.look(ctx)
	}
}

// look imports what is new.
func (i *Importer) look(ctx context.Context) {
	next := lookEvery
	soon := func(d time.Duration) { next = min(next, max(d, 100*time.Millisecond)) }
	entries, err := os.ReadDir(i.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.ErrorS(err, "Looking for archives of images")
	}
	there := map[string]bool{}
	for _, e := range entries {
		if ctx.Err() != nil {
			return
		}
		if name := e.Name(); isArchive(name) {
			there[name] = true
			if wait := i.consider(ctx, name); wait > 0 {
				soon(wait)
			}
		}
	}
	i.mu.Lock()
	maps.DeleteFunc(i.files, func(name string, _ *file) bool { return !there[name] })
	i.mu.Unlock()
	i.again.Reset(next)
}

// endings of archives that are imported, and of those that others import and this does not.
var (
	taken   = []string{".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"}
	foreign = []string{".tar.lz4", ".tar.bz2", ".tbz", ".tar.xz", ".txz"}
)

func ends(name string, with []string) bool {
	return slices.ContainsFunc(with, func(end string) bool { return strings.HasSuffix(name, end) })
}

// isArchive leaves out what programs that copy call a file until it is whole: .web.tar.Xa2b3c.
func isArchive(name string) bool {
	return !strings.HasPrefix(name, ".") && (ends(name, taken) || ends(name, foreign))
}

// consider imports a file if that is due, and says when to look again; 0: when it changes.
func (i *Importer) consider(ctx context.Context, name string) time.Duration {
	now, wait := i.state(name)
	if now == nil {
		return wait
	}
	i.mu.Lock()
	known := i.files[name]
	i.mu.Unlock()
	if known != nil && known.stamp == *now {
		switch {
		case known.failed == "" && i.haveAll(known.Images):
			return 0
		case known.failed != "" && known.retry.IsZero():
			return 0
		case known.failed != "" && time.Now().Before(known.retry):
			return time.Until(known.retry)
		}
	}
	return i.try(ctx, name, *now, known)
}

// state is what a file is like now; nil while it is written, is gone, or is no file, and how long to wait then.
func (i *Importer) state(name string) (*stamp, time.Duration) {
	path := filepath.Join(i.cfg.Dir, name)
	info, err := os.Stat(path) // a link to a file is one
	if err != nil || !info.Mode().IsRegular() {
		return nil, 0
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, 0
	}
	open, known := written(f)
	quiet := time.Since(info.ModTime())
	switch {
	case open:
		return nil, 0 // its end is told
	case !known && quiet >= 0 && quiet < settle:
		return nil, settle - quiet
	}
	return &stamp{info.Size(), info.ModTime().UnixNano()}, 0
}

func (i *Importer) haveAll(refs []string) bool {
	return len(refs) > 0 && !slices.ContainsFunc(refs, func(ref string) bool { return !i.cfg.Have(ref) })
}

// try imports a file, and keeps what came of it.
func (i *Importer) try(ctx context.Context, name string, now stamp, before *file) time.Duration {
	result := &file{stamp: now}
	var err error
	if ends(name, foreign) {
		err = fmt.Errorf("only %s are imported: unpack it and put the tar file there", strings.Join(taken, ", "))
	} else {
		result.Images, err = i.cfg.Import(ctx, filepath.Join(i.cfg.Dir, name))
	}
	if ctx.Err() != nil {
		return 0
	}
	if err == nil {
		klog.InfoS("Imported an archive of images", "archive", name, "images", result.Images)
		i.keep(name, result)
		i.write()
		return 0
	}
	if after, wait := i.state(name); after == nil || *after != now {
		return max(wait, time.Second) // it was not whole
	}
	result.failed = fmt.Sprintf("archive %s of images is not imported: %v", name, err)
	if disk.NoSpace(err) {
		result.wait = firstWait
		if before != nil && before.wait > 0 {
			result.wait = min(2*before.wait, longWait)
		}
		result.retry = time.Now().Add(result.wait)
	}
	if before == nil || before.failed != result.failed {
		klog.ErrorS(err, "An archive of images is not imported", "archive", name)
	}
	i.keep(name, result)
	return result.wait
}

func (i *Importer) keep(name string, f *file) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.files[name] = f
}

// read takes over what an earlier process has imported; without that all is imported again, which does no harm.
func (i *Importer) read() {
	raw, err := os.ReadFile(i.cfg.State)
	if err != nil {
		return
	}
	files := map[string]*file{}
	if json.Unmarshal(raw, &files) != nil {
		return
	}
	maps.DeleteFunc(files, func(_ string, f *file) bool { return f == nil })
	i.mu.Lock()
	defer i.mu.Unlock()
	i.files = files
}

// write keeps what was imported for the next process. It is a shortcut: if it cannot be written, that is no trouble.
func (i *Importer) write() {
	i.mu.Lock()
	good := maps.Clone(i.files)
	i.mu.Unlock()
	maps.DeleteFunc(good, func(_ string, f *file) bool { return f.failed != "" })
	raw, err := json.Marshal(good)
	if err == nil {
		next := i.cfg.State + ".new"
		if err = os.WriteFile(next, raw, 0o600); err == nil {
			err = os.Rename(next, i.cfg.State)
		}
	}
	if err != nil {
		klog.V(2).InfoS("Keeping which archives were imported", "err", err)
	}
}
