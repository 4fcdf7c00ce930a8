package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"svcplane/disk"
)

// Store is the etcd that keeps every object: one that runs in this process, or an external cluster.
type Store struct {
	endpoints []string
	dir       string
	etcd      *embed.Etcd // nil for an external store
	logLevel  zap.AtomicLevel
	failed    *failure
	reserve   sync.Mutex // Reserve and Close
	closed    bool
}

const (
	// startTimeout bounds the replay of the write-ahead log of a store that was not closed.
	startTimeout = 2 * time.Minute
	// closeTimeout is how long a store that failed may take to end: what it holds is written already, or cannot be.
	closeTimeout = 5 * time.Second
)

// Open starts an etcd in dir, listening on a unix socket there, and waits until it serves.
// With external endpoints it starts nothing and uses those.
func Open(ctx context.Context, dir string, external []string) (*Store, error) {
	if len(external) > 0 {
		return openExternal(ctx, external)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the store's directory: %w", err)
	}
	if err := check(dir); err != nil {
		return nil, err
	}
	if err := checkSpace(dir); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, logLevel: zap.NewAtomicLevelAt(zapcore.ErrorLevel), failed: newFailure()}
	cfg, err := storeConfig(dir, storeLogger(s.logLevel, s.failed))
	if err != nil {
		return nil, err
	}
	s.endpoints = []string{cfg.ListenClientUrls[0].String()}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not ready after %v", startTimeout))
	defer cancel()
	if err := s.start(ctx, cfg); err != nil {
		s.logLevel.SetLevel(zapcore.FatalLevel)
		return nil, fmt.Errorf("starting the store in %s: %w: %s", dir, err, remedyFor(err))
	}
	return s, nil
}

// checkSpace sees to it that the store has the space on the disk that it needs for itself.
func checkSpace(dir string) error {
	space, err := disk.Look(dir)
	if err != nil {
		return err
	}
	there, err := Exists(dir)
	if err != nil {
		return err
	}
	if need := int64(reserved + segmentSize); !there && space.Free < need {
		return fmt.Errorf("the disk of %s is full: %v, and a new store needs %d MiB: make room there, or choose another --data-dir", dir, space, need>>20)
	}
	if err := reserve(dir); err != nil {
		return fmt.Errorf("the store in %s cannot keep %d MiB of the disk for itself (%v): %w: %s", dir, reserved>>20, space, err, remedyFor(err))
	}
	return nil
}

// start runs etcd until it serves. When ctx ends it returns and leaves etcd behind: nothing can interrupt what that does
// while it opens its files.
func (s *Store) start(ctx context.Context, cfg *embed.Config) error {
	type outcome struct {
		etcd *embed.Etcd
		err  error
	}
	started := make(chan outcome, 1)
	go func() {
		var o outcome
		o.err = protect(func() (err error) { o.etcd, err = embed.StartEtcd(cfg); return err })
		started <- o
	}()
	select {
	case o := <-started:
		if o.err != nil {
			return o.err
		}
		s.etcd = o.etcd
	case err := <-s.failed.err:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var err error
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case err = <-s.etcd.Err():
	case err = <-s.failed.err:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.Close()
	return err
}

// externalTimeout is how long one of the external endpoints may take to answer.
const externalTimeout = 5 * time.Second

// openExternal asks every endpoint, because the API server would wait for a dead one and then end the process.
func openExternal(ctx context.Context, endpoints []string) (*Store, error) {
	ctx, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("external store %s: %w: mend --etcd-endpoints", strings.Join(endpoints, ", "), err)
	}
	defer client.Close()
	var last error
	for _, endpoint := range endpoints {
		if _, last = client.Status(ctx, endpoint); last == nil {
			return &Store{endpoints: endpoints}, nil
		}
	}
	return nil, fmt.Errorf("external store %s does not answer: %w: start it or mend --etcd-endpoints", strings.Join(endpoints, ", "), last)
}

// Endpoints are the URLs for an etcd client.
func (s *Store) Endpoints() []string { return s.endpoints }

// Get reads the value of one key as it is stored, nil if there is none.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	client, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: s.endpoints, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("reading %s in the store: %w", key, err)
	}
	defer client.Close()
	got, err := client.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading %s in the store: %w", key, err)
	}
	if len(got.Kvs) == 0 {
		return nil, nil
	}
	return got.Kvs[0].Value, nil
}

// getTimeout is generous: the store has been opened, and a disk may be slow.
const getTimeout = 30 * time.Second

// Ready is closed: a Store serves from the moment it was opened.
func (s *Store) Ready() <-chan struct{} {
	ready := make(chan struct{})
	close(ready)
	return ready
}

// Figure is a short text for people.
func (s *Store) Figure() string {
	if s.etcd == nil {
		return "external etcd " + strings.Join(s.endpoints, ", ")
	}
	backend := s.etcd.Server.Backend()
	return fmt.Sprintf("%.1f MB, %.1f MB on the disk", megabytes(backend.SizeInUse()), megabytes(backend.Size()))
}

func megabytes(octets int64) float64 { return float64(octets) / 1e6 }

// Run returns nil when ctx ends, and an error when an embedded store ends by itself.
func (s *Store) Run(ctx context.Context) error {
	if s.etcd == nil {
		<-ctx.Done()
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.etcd.Err():
		return err
	case err := <-s.failed.err:
		return fmt.Errorf("%w: %s", err, remedyFor(err))
	}
}

// Reserve sees to it that the store has space on the disk that nobody else can take. It is called again and again, since
// what was kept gets used; an external store keeps none.
func (s *Store) Reserve() error {
	s.reserve.Lock()
	defer s.reserve.Unlock()
	if s.etcd == nil || s.closed {
		return nil
	}
	return reserve(s.dir)
}

// Close stops an embedded store after writing out what it holds. One that failed may hold locks of its own for ever, and
// is left behind then.
func (s *Store) Close() {
	s.reserve.Lock()
	s.closed = true
	s.reserve.Unlock()
	if s.etcd == nil {
		return
	}
	// etcd reports the end of its own listeners as errors.
	s.logLevel.SetLevel(zapcore.FatalLevel)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.etcd.Close()
	}()
	var late <-chan time.Time
	if s.failed.happened() {
		late = time.After(closeTimeout)
	}
	select {
	case <-done:
		_ = reserve(s.dir) // etcd has removed one of the files; if there is no room, the next start says so
	case <-late:
	}
}

// databaseFile is where etcd keeps the objects, and logDir where its write-ahead log is.
func databaseFile(dir string) string { return filepath.Join(memberDir(dir), "snap", "db") }
func logDir(dir string) string       { return filepath.Join(memberDir(dir), "wal") }
func memberDir(dir string) string    { return filepath.Join(dir, "etcd", "member") }

// Exists says whether a store was ever opened in dir.
func Exists(dir string) (bool, error) {
	for _, path := range []string{databaseFile(dir), logDir(dir)} {
		if _, err := os.Lstat(path); err == nil || errors.Is(err, syscall.ENOTDIR) { // check says what is wrong with the latter
			return true, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("looking for the store: %w", err)
		}
	}
	return false, nil
}
