package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/disk"
	"svcplane/node/runtime/record"
	"svcplane/node/runtime/sandbox"
	"svcplane/node/runtime/shim"
)

// States of a sandbox and of a container, as recorded.
const (
	sandboxCreating = "creating" // may be half made
	sandboxReady    = "ready"
	sandboxStopped  = "stopped"

	containerCreated = "created"
	containerRunning = "running"
	containerExited  = "exited"
)

// sandboxRecord is a pod's sandbox on disk.
type sandboxRecord struct {
	ID        string          `json:"id"`
	Config    json.RawMessage `json:"config"` // PodSandboxConfig
	Handler   string          `json:"handler,omitempty"`
	State     string          `json:"state"`
	CreatedAt time.Time       `json:"createdAt"`
	IP        netip.Addr      `json:"ip"`   // zero with the host's network
	IP6       netip.Addr      `json:"ip6"`  // zero with one address family, too
	Boot      string          `json:"boot"` // boot ID; namespaces don't survive a boot
}

// sandboxEntry is a sandbox in memory; the record is guarded by Runtime.mu.
type sandboxEntry struct {
	sandboxRecord
	config     *runtimeapi.PodSandboxConfig
	namespaces *sandbox.Namespaces // nil unless ready
	gone       bool                // its network is taken down
	op         sync.Mutex          // one change at a time
}

// containerRecord is a container on disk.
type containerRecord struct {
	ID        string               `json:"id"`
	SandboxID string               `json:"sandboxID"`
	Config    json.RawMessage      `json:"config"` // ContainerConfig
	Kind      string               `json:"kind"`   // echo, host, image
	ImageID   string               `json:"imageID"`
	LogPath   string               `json:"logPath"`
	State     string               `json:"state"`
	CreatedAt time.Time            `json:"createdAt"`
	Status    shim.ContainerStatus `json:"status"` // from its start on
}

// containerEntry is a container in memory; the record is guarded by Runtime.mu.
type containerEntry struct {
	containerRecord
	config *runtimeapi.ContainerConfig
	op     sync.Mutex // one start or removal at a time
}

// store keeps the records in files that are replaced as a whole: a reader sees the old or the new one. They
// describe processes and namespaces, which end with the machine, so nothing is forced to the disk.
type store struct {
	dir string
}

func (s store) sandboxDir(id string) string   { return filepath.Join(s.dir, "sandboxes", id) }
func (s store) containerDir(id string) string { return filepath.Join(s.dir, "containers", id) }

func (s store) saveSandbox(r sandboxRecord) error {
	return record.Write(filepath.Join(s.sandboxDir(r.ID), "state.json"), r)
}

func (s store) saveContainer(r containerRecord) error {
	return record.Write(filepath.Join(s.containerDir(r.ID), "state.json"), r)
}

func (s store) removeSandbox(id string) error {
	return removeAll("sandbox", s.sandboxDir(id))
}

func (s store) removeContainer(id string) error {
	return removeAll("container", s.containerDir(id))
}

func removeAll(what, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the record of a %s: %w", what, err)
	}
	return nil
}

// ids lists what has a directory in a folder of the store.
func (s store) ids(folder string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the records: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// loadSandbox reads one record; a broken one is an error, and then what it described is removed by its ID.
func (s store) loadSandbox(id string) (*sandboxEntry, error) {
	entry := &sandboxEntry{config: &runtimeapi.PodSandboxConfig{}}
	if err := record.Read(filepath.Join(s.sandboxDir(id), "state.json"), &entry.sandboxRecord); err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(entry.Config, entry.config); err != nil {
		return nil, fmt.Errorf("read the config of sandbox %s: %w", id, err)
	}
	return entry, nil
}

func (s store) loadContainer(id string) (*containerEntry, error) {
	entry := &containerEntry{config: &runtimeapi.ContainerConfig{}}
	if err := record.Read(filepath.Join(s.containerDir(id), "state.json"), &entry.containerRecord); err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(entry.Config, entry.config); err != nil {
		return nil, fmt.Errorf("read the config of container %s: %w", id, err)
	}
	return entry, nil
}

// behind lets a record stay behind what has come about already where nothing can be written: on a full disk pods can be
// stopped and removed, which makes room, and the next start finds out anew what has ended.
func behind(err error) error {
	if disk.NoSpace(err) {
		klog.V(2).InfoS("A record stays as it was", "err", err)
		return nil
	}
	return err
}
