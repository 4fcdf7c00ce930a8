package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/node/downward"
	"svcplane/node/env"
)

// Tokens requests a service-account token (TokenRequest API) for a pod.
type Tokens func(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (token string, expires time.Time, err error)

// Config is what a Manager needs.
type Config struct {
	Dir     string // one directory per pod below it, named by uid
	Objects env.Objects
	Claims  Claims
	Tokens  Tokens
	// HostPath says why pods of a namespace may not have volumes of that type, or nil. Nil: all may.
	HostPath func(namespace string) error
}

// Manager provides volumes.
type Manager struct {
	cfg Config

	mu      sync.Mutex
	tokens  map[tokenKey]token
	written map[string]uint64 // by directory: hash of the payload that is there
}

// New makes a Manager; it touches nothing.
func New(cfg Config) *Manager {
	return &Manager{cfg: cfg, tokens: map[tokenKey]token{}, written: map[string]uint64{}}
}

// Error is why a volume could not be provided. Its text is the one of the FailedMount Event.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Mounted are the volumes of a pod, ready to be mounted into containers.
type Mounted struct {
	paths    map[string]string
	readOnly map[string]bool
	images   map[string]*corev1.ImageVolumeSource
	// Refresh is when Setup has to be called again for the sake of a token; zero: never.
	Refresh time.Time
}

// Setup provides every volume of the pod, or refreshes it.
func (m *Manager) Setup(ctx context.Context, facts downward.Facts) (Mounted, error) {
	pod := facts.Pod
	out := Mounted{paths: map[string]string{}, readOnly: map[string]bool{}, images: map[string]*corev1.ImageVolumeSource{}}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		path, err := m.setupOne(ctx, facts, v, &out)
		if err != nil {
			errs = append(errs, &Error{v.Name, err})
			continue
		}
		out.paths[v.Name] = path
	}
	return out, errors.Join(errs...)
}

func (m *Manager) setupOne(ctx context.Context, facts downward.Facts, v *corev1.Volume, out *Mounted) (string, error) {
	dir := m.dir(facts.Pod.UID, v.Name)
	switch {
	case v.EmptyDir != nil:
		return dir, setupEmptyDir(dir, v.EmptyDir, fsGroup(facts.Pod))
	case v.HostPath != nil:
		if m.cfg.HostPath != nil {
			if err := m.cfg.HostPath(facts.Pod.Namespace); err != nil {
				return "", fmt.Errorf("hostPath volumes are files of the host, which this pod may not have: %w", err)
			}
		}
		return v.HostPath.Path, checkHostPath(v.HostPath)
	case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
		return m.setupClaim(ctx, facts.Pod, v, out)
	case v.Image != nil:
		out.images[v.Name] = v.Image // the runtime has its files
		return "", nil
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
		out.readOnly[v.Name] = true
		files, err := m.payload(ctx, facts, v, out)
		if err != nil {
			return "", err
		}
		if err := m.write(dir, files, fsGroup(facts.Pod)); err != nil {
			return "", err
		}
		return dir, makeMountPoints(dir, mountPoints(facts.Pod, v.Name))
	}
	return "", fmt.Errorf("this node cannot mount a volume of type %s; use emptyDir, hostPath, persistentVolumeClaim, ephemeral, image, configMap, secret, downwardAPI or projected", kindOf(v.VolumeSource))
}

// kindOf names the source of a volume, a struct of pointers of which one is set, as it is spelt in a manifest.
func kindOf(source any) string {
	src := reflect.ValueOf(source)
	for i := range src.NumField() {
		if !src.Field(i).IsNil() {
			name, _, _ := strings.Cut(src.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return "unknown"
}

func (m *Manager) podDir(uid types.UID) string {
	return filepath.Join(m.cfg.Dir, string(uid), "volumes")
}

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// Teardown removes the volumes of a pod from the host; what a hostPath or a claim points at stays.
func (m *Manager) Teardown(uid types.UID) error {
	m.mu.Lock()
	for k := range m.tokens {
		if k.pod == uid {
			delete(m.tokens, k)
		}
	}
	dir := m.podDir(uid)
	for path := range m.written {
		if strings.HasPrefix(path, dir+string(filepath.Separator)) {
			delete(m.written, path)
		}
	}
	m.mu.Unlock()
	return Remove(dir)
}

// Path gives the host's path of a volume, or of a part of it. A subpath that does not exist is made, as a
// directory; one that leads out of the volume is an error.
func (m Mounted) Path(volume, sub string) (string, error) {
	root, ok := m.paths[volume]
	if !ok {
		return "", fmt.Errorf("no volume %q is ready", volume)
	}
	if sub == "" {
		return root, nil
	}
	if !filepath.IsLocal(sub) {
		return "", fmt.Errorf("subPath %q of volume %q must be a relative path below it", sub, volume)
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return "", fmt.Errorf("opening volume %q: %w", volume, err)
	}
	defer dir.Close()
	if _, err := dir.Stat(sub); errors.Is(err, os.ErrNotExist) {
		if err := makeLike(dir, sub); err != nil {
			return "", fmt.Errorf("making subPath %q of volume %q: %w", sub, volume, err)
		}
	} else if err != nil {
		return "", fmt.Errorf("resolving subPath %q of volume %q: %w", sub, volume, err)
	}
	// The link-free path: what is mounted stays what it was when the container started.
	path, err := filepath.EvalSymlinks(filepath.Join(root, sub))
	if err != nil {
		return "", fmt.Errorf("resolving subPath %q of volume %q: %w", sub, volume, err)
	}
	return path, nil
}

// makeLike makes sub and what is missing above it with the mode of the volume itself, as the kubelet does: who may write
// there may write here.
func makeLike(root *os.Root, sub string) error {
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	mode := info.Mode() & (fs.ModePerm | fs.ModeSetgid)
	path := ""
	for part := range strings.SplitSeq(filepath.Clean(sub), string(filepath.Separator)) {
		path = filepath.Join(path, part)
		err := root.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := root.Chmod(path, mode); err != nil { // whatever the umask
			return err
		}
	}
	return nil
}

// Image gives the image whose files a volume is, or nil: such a volume has no path.
func (m Mounted) Image(volume string) *corev1.ImageVolumeSource { return m.images[volume] }

// ReadOnly says that a volume is never written by containers, whatever its mount says.
func (m Mounted) ReadOnly(volume string) bool { return m.readOnly[volume] }
