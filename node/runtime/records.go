package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/disk"
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

// nodeRecord is what is recorded once per data directory.
type nodeRecord struct {
	Routing     sandbox.Routing `json:"routing"` // before the first start
	NextAddress uint32          `json:"nextAddress"`
}

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

// addrs are the pod's addresses, the IPv4 one first.
func (s *sandboxRecord) addrs() []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{s.IP, s.IP6}, func(a netip.Addr) bool { return !a.IsValid() })
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

func (s store) saveSandbox(record sandboxRecord) error {
	return writeJSON(filepath.Join(s.sandboxDir(record.ID), "state.json"), record)
}

func (s store) saveContainer(record containerRecord) error {
	return writeJSON(filepath.Join(s.containerDir(record.ID), "state.json"), record)
}

func (s store) saveNode(record nodeRecord) error {
	return writeJSON(filepath.Join(s.dir, "node.json"), record)
}

// loadNode reads what is recorded; a record that is gone or broken, as one is that a power failure has left empty, is begun anew.
func (s store) loadNode() (nodeRecord, error) {
	var record nodeRecord
	err := readJSON(filepath.Join(s.dir, "node.json"), &record)
	if errors.Is(err, errBroken) {
		klog.ErrorS(err, "The runtime's record is begun anew: how the machine forwarded packets before the first start is not known any more")
		return nodeRecord{}, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return record, err
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
	if err := readJSON(filepath.Join(s.sandboxDir(id), "state.json"), &entry.sandboxRecord); err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(entry.Config, entry.config); err != nil {
		return nil, fmt.Errorf("read the config of sandbox %s: %w", id, err)
	}
	return entry, nil
}

func (s store) loadContainer(id string) (*containerEntry, error) {
	entry := &containerEntry{config: &runtimeapi.ContainerConfig{}}
	if err := readJSON(filepath.Join(s.containerDir(id), "state.json"), &entry.containerRecord); err != nil {
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

func writeJSON(path string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write a record: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write a record: %w", err)
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func readJSON(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read a record: %w", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read %s: %w: %w", path, errBroken, err)
	}
	return nil
}

// errBroken is a record that is there and says nothing.
var errBroken = errors.New("the record is broken")
