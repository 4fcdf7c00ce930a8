package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// usersPerPod is how many users a pod with a user namespace has, and what their numbers outside are multiples of (KEP-127). The
// first range is the machine's own.
const usersPerPod = 1 << 16

// userRanges gives pods users that nobody else has. Each pod's are recorded in its directory and go with it.
type userRanges struct {
	dir string // of the pods
	mu  sync.Mutex
}

// userRecord is the file, as the kubelet has it.
type userRecord struct {
	UIDs []userRange `json:"uidMappings"`
	GIDs []userRange `json:"gidMappings"`
}

type userRange struct {
	HostID      uint32 `json:"hostId"`
	ContainerID uint32 `json:"containerId"`
	Length      uint32 `json:"length"`
}

// of gives the users of a pod, the same ones each time.
func (r *userRanges) of(uid types.UID) ([]*runtimeapi.IDMapping, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	base, err := r.read(string(uid))
	if errors.Is(err, fs.ErrNotExist) {
		base, err = r.take(string(uid))
	}
	if err != nil {
		return nil, err
	}
	return []*runtimeapi.IDMapping{{HostId: base, ContainerId: 0, Length: usersPerPod}}, nil
}

func (r *userRanges) path(pod string) string { return filepath.Join(r.dir, pod, "userns") }

func (r *userRanges) read(pod string) (uint32, error) {
	raw, err := os.ReadFile(r.path(pod))
	if err != nil {
		return 0, err
	}
	var record userRecord
	if err := json.Unmarshal(raw, &record); err != nil || len(record.UIDs) != 1 || record.UIDs[0].HostID < usersPerPod || record.UIDs[0].HostID%usersPerPod != 0 {
		return 0, fmt.Errorf("the file %s does not say which users the pod has: delete that pod", r.path(pod))
	}
	return record.UIDs[0].HostID, nil
}

// take records the first range that no pod has.
func (r *userRanges) take(pod string) (uint32, error) {
	pods, err := os.ReadDir(r.dir)
	if err != nil {
		return 0, err
	}
	used := map[uint32]bool{}
	for _, p := range pods {
		switch base, err := r.read(p.Name()); {
		case err == nil:
			used[base] = true
		case !errors.Is(err, fs.ErrNotExist):
			return 0, err
		}
	}
	base := uint32(usersPerPod)
	for used[base] {
		if base += usersPerPod; base == 0 {
			return 0, errors.New("all ranges of users are taken")
		}
	}
	return base, r.record(pod, base)
}

// record writes the file: it is whole or not there, for two pods with the same users would be one to the kernel.
func (r *userRanges) record(pod string, base uint32) error {
	all := []userRange{{HostID: base, Length: usersPerPod}}
	raw, err := json.Marshal(userRecord{UIDs: all, GIDs: all})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.path(pod)), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(r.path(pod)+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), r.path(pod))
}

// handlerFeatures tells the API what the runtime says of its handlers.
func handlerFeatures(list []*runtimeapi.RuntimeHandler) []corev1.NodeRuntimeHandler {
	var out []corev1.NodeRuntimeHandler
	for _, h := range list {
		users, readOnly := h.GetFeatures().GetUserNamespaces(), h.GetFeatures().GetRecursiveReadOnlyMounts()
		out = append(out, corev1.NodeRuntimeHandler{
			Name:     h.GetName(),
			Features: &corev1.NodeRuntimeHandlerFeatures{UserNamespaces: &users, RecursiveReadOnlyMounts: &readOnly},
		})
	}
	return out
}
