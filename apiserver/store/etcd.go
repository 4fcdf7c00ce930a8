package store

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// segmentSize is one file of the write-ahead log. etcd always has two on the disk, and the reserve is a third: its own
// choice of 64 MB is for larger machines.
const segmentSize = 16 << 20

// storeConfig describes a cluster of one member. The addresses it advertises are names only:
// nothing listens on them, but etcd insists on host:port.
func storeConfig(dir string, log *zap.Logger) (*embed.Config, error) {
	socket := filepath.Join(dir, "etcd.sock")
	if len(socket) > 107 { // sizeof(sockaddr_un.sun_path) - 1
		return nil, fmt.Errorf("the store's socket path %s is longer than the 107 bytes that a unix socket may have: choose a shorter --data-dir", socket)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the old socket of the store: %w", err)
	}
	client := url.URL{Scheme: "unix", Path: socket}
	nominal := url.URL{Scheme: "http", Host: "localhost:2379"}

	wal.SegmentSizeBytes = segmentSize // etcd has no other way to say it

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
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return cfg, nil
}

// storeLogger hands etcd's log to the process's own, and what would end the process to failed.
func storeLogger(level zap.AtomicLevel, failed *failure) *zap.Logger {
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey, encoding.LevelKey = zapcore.OmitKey, zapcore.OmitKey
	core := zapcore.NewCore(zapcore.NewConsoleEncoder(encoding), zapcore.AddSync(klogWriter{}), level)
	return zap.New(core, zap.WithFatalHook(failed), zap.WithPanicHook(failed))
}

// klogWriter writes lines as errors into klog.
type klogWriter struct{}

func (klogWriter) Write(line []byte) (int, error) {
	klog.ErrorS(nil, "Store: "+strings.TrimSpace(string(line)))
	return len(line), nil
}
