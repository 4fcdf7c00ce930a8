package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// Store is the etcd that keeps every object: one that runs in this process, or an external cluster.
type Store struct {
	endpoints []string
	etcd      *embed.Etcd // nil for an external store
	logLevel  zap.AtomicLevel
}

// storeStartTimeout bounds the replay of the write-ahead log of a store that was not closed.
const storeStartTimeout = 2 * time.Minute

// OpenStore starts an etcd in dir, listening on a unix socket there, and waits until it serves.
// With external endpoints it starts nothing and uses those.
func OpenStore(ctx context.Context, dir string, external []string) (*Store, error) {
	if len(external) > 0 {
		return openExternal(ctx, external)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the store's directory: %w", err)
	}
	level := zap.NewAtomicLevelAt(zapcore.ErrorLevel) // lets through what an operator can act on
	cfg, err := storeConfig(dir, level)
	if err != nil {
		return nil, err
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, fmt.Errorf("starting the store in %s: %w", dir, err)
	}
	s := &Store{endpoints: []string{cfg.ListenClientUrls[0].String()}, etcd: e, logLevel: level}
	ctx, cancel := context.WithTimeout(ctx, storeStartTimeout)
	defer cancel()
	select {
	case <-e.Server.ReadyNotify():
		return s, nil
	case err := <-e.Err():
		s.Close()
		return nil, fmt.Errorf("starting the store in %s: %w", dir, err)
	case <-ctx.Done():
		s.Close()
		return nil, fmt.Errorf("starting the store in %s: %w", dir, context.Cause(ctx))
	}
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

// storeConfig describes a cluster of one member. The addresses it advertises are names only:
// nothing listens on them, but etcd insists on host:port.
func storeConfig(dir string, level zap.AtomicLevel) (*embed.Config, error) {
	socket := filepath.Join(dir, "etcd.sock")
	if len(socket) > 107 { // sizeof(sockaddr_un.sun_path) - 1
		return nil, fmt.Errorf("the store's socket path %s is longer than the 107 bytes that a unix socket may have: choose a shorter --data-dir", socket)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the old socket of the store: %w", err)
	}
	client := url.URL{Scheme: "unix", Path: socket}
	nominal := url.URL{Scheme: "http", Host: "localhost:2379"}

	cfg := embed.NewConfig()
	cfg.Name = "svcplane"
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.ListenClientUrls = []url.URL{client}
	cfg.AdvertiseClientUrls = []url.URL{nominal}
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{nominal}
	cfg.InitialCluster = cfg.Name + "=" + nominal.String()
	cfg.EnableGRPCGateway = false
	// With one member there is nobody to wait for in an election.
	cfg.TickMs, cfg.ElectionMs = 10, 100
	// The write-ahead log is replayed on start, and its entries stay in memory: keep both short.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 2500, 250
	cfg.QuotaBackendBytes = 4 << 30
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(storeLogger(level))
	return cfg, nil
}

// storeLogger hands etcd's log to the process's own.
func storeLogger(level zap.AtomicLevel) *zap.Logger {
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey, encoding.LevelKey = zapcore.OmitKey, zapcore.OmitKey
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(encoding), zapcore.AddSync(klogWriter{}), level))
}

// klogWriter writes lines as errors into klog.
type klogWriter struct{}

func (klogWriter) Write(line []byte) (int, error) {
	klog.ErrorS(nil, "Store: "+strings.TrimSpace(string(line)))
	return len(line), nil
}

// Endpoints are the URLs for an etcd client.
func (s *Store) Endpoints() []string { return s.endpoints }

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
	return fmt.Sprintf("%d MB", s.etcd.Server.Backend().SizeInUse()>>20)
}

// Err receives when an embedded store stops by itself.
func (s *Store) Err() <-chan error {
	if s.etcd == nil {
		return nil
	}
	return s.etcd.Err()
}

// Close stops an embedded store after writing out what it holds.
func (s *Store) Close() {
	if s.etcd == nil {
		return
	}
	// etcd reports the end of its own listeners as errors.
	s.logLevel.SetLevel(zapcore.FatalLevel)
	s.etcd.Close()
}
