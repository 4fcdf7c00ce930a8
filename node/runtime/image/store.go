package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Names of the images that are part of this program.
const (
	Echo = "svcplane/echo"
	Host = "svcplane/host"
)

// Config is what of an image's config matters to run it.
type Config struct {
	Env        []string `json:"env,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	User       string   `json:"user,omitempty"` // user[:group], names or numbers
}

// Image is one image of the store.
type Image struct {
	ID       string    `json:"id"`                // sha256:… of its config
	Tags     []string  `json:"tags"`              // full references, such as index.docker.io/library/x:1
	Digests  []string  `json:"digests,omitempty"` // repository@sha256:… of its manifest
	Layers   []string  `json:"layers"`            // directories, lowest first; in the index without their path
	Size     int64     `json:"size"`              // bytes of the layers, compressed as they came
	Imported time.Time `json:"imported"`          // or pulled
	// Pulled says that its names were looked up in a registry, so that what they stand for may change there; what was imported
	// by hand stands for what whoever imported it said.
	Pulled bool   `json:"pulled,omitempty"`
	Config Config `json:"config"`

	asked string // the name under which it was put here now
}

// Shown is a full reference as containerd and Docker write it: docker.io, and not index.docker.io.
func Shown(ref string) string {
	if rest, ok := strings.CutPrefix(ref, name.DefaultRegistry+"/"); ok {
		return "docker.io/" + rest
	}
	return ref
}

// UID is the number of the user the image asks for, if it is one.
func (i Image) UID() (int64, bool) {
	uid, err := strconv.ParseInt(i.UserName(), 10, 64)
	return uid, err == nil
}

// UserName is the user the image asks for, without its group.
func (i Image) UserName() string {
	user, _, _ := strings.Cut(i.Config.User, ":")
	return user
}

// Builtin gives Echo or Host if ref names that image (any tag), else "".
func Builtin(ref string) string {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return ""
	}
	switch parsed.Context().Name() {
	case name.DefaultRegistry + "/" + Echo:
		return Echo
	case name.DefaultRegistry + "/" + Host:
		return Host
	}
	return ""
}

// lockEvery is how often whoever waits for the store asks whether it is free: a wait in the kernel could not be given up.
const lockEvery = 20 * time.Millisecond

// Store is a directory of images. Several processes may use one: imports exclude each other.
type Store struct {
	dir string

	mu      sync.Mutex
	images  []Image
	read    time.Time // modification time of the index that was read
	aliases map[string]string
	known   time.Time // modification time of the aliases that were read
}

// NewStore gives the store in dir; Load or Import make and read it.
func NewStore(dir string) *Store { return &Store{dir: dir} }

func (s *Store) indexPath() string { return filepath.Join(s.dir, "index.json") }

// Load reads the index if it changed.
func (s *Store) Load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load()
}

func (s *Store) load() error {
	if err := s.loadAliases(); err != nil {
		return err
	}
	info, err := os.Stat(s.indexPath())
	if errors.Is(err, fs.ErrNotExist) {
		s.images, s.read = nil, time.Time{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the image index: %w", err)
	}
	if info.ModTime().Equal(s.read) {
		return nil
	}
	raw, err := os.ReadFile(s.indexPath())
	if err != nil {
		return fmt.Errorf("read the image index: %w", err)
	}
	var images []Image
	if err := json.Unmarshal(raw, &images); err != nil {
		return fmt.Errorf("read the image index %s: %w; move it away and import the images again", s.indexPath(), err)
	}
	for i := range images {
		for j, layer := range images[i].Layers {
			images[i].Layers[j] = s.layerDir(layer)
		}
	}
	s.images, s.read = images, info.ModTime()
	return nil
}

func (s *Store) layerDir(name string) string { return filepath.Join(s.dir, "layers", name) }

// layerDirs are the names that the directory of a layer may have.
func (s *Store) layerDirs(diffID v1.Hash) []string {
	dir := s.layerDir(diffID.Hex)
	return []string{dir, dir + plainSuffix}
}

// stored is how an image is written to the index: the data directory may be moved.
func stored(images []Image) []Image {
	images = slices.Clone(images)
	for i := range images {
		images[i].Layers = slices.Clone(images[i].Layers)
		for j, layer := range images[i].Layers {
			images[i].Layers[j] = filepath.Base(layer)
		}
	}
	return images
}

// Get finds an image by reference, alias or ID; fs.ErrNotExist if there is none.
func (s *Store) Get(ref string) (Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(ref)
}

func (s *Store) get(ref string) (Image, error) {
	for _, img := range s.images {
		if img.ID == ref || strings.TrimPrefix(img.ID, "sha256:") == ref {
			return img, nil
		}
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return Image{}, fmt.Errorf("image reference %q: %w", ref, err)
	}
	full := parsed.Name()
	if target, ok := s.aliases[full]; ok {
		full = target
	}
	for _, img := range s.images {
		if slices.Contains(img.Tags, full) || slices.Contains(img.Digests, full) {
			return img, nil
		}
	}
	return Image{}, fmt.Errorf("image %q: %w", ref, fs.ErrNotExist)
}

// List gives all images, by their first tag.
func (s *Store) List() []Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.images)
	slices.SortFunc(list, func(a, b Image) int { return strings.Compare(a.label(), b.label()) })
	return list
}

func (i Image) label() string {
	if len(i.Tags) > 0 {
		return i.Tags[0]
	}
	return i.ID
}

// add enters an image, taking its references from those that had them.
func (s *Store) add(img Image) error {
	var kept []Image
	for _, old := range s.images {
		if old.ID == img.ID {
			img.Tags = union(old.Tags, img.Tags)
			img.Digests = union(old.Digests, img.Digests)
			continue
		}
		old.Tags = slices.DeleteFunc(slices.Clone(old.Tags), func(t string) bool { return slices.Contains(img.Tags, t) })
		// Without a name it can still be in use by its ID: containers that run keep it.
		kept = append(kept, old)
	}
	for _, tag := range img.Tags {
		if err := s.dropAlias(tag); err != nil {
			return err
		}
	}
	return s.save(append(kept, img))
}

func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

// locked runs fn while nobody else, of this process or another, changes the store, on the newest index.
func (s *Store) locked(fn func() error) error {
	return s.exclusive(context.Background(), func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.load(); err != nil {
			return err
		}
		return fn()
	})
}

// exclusive runs fn while nobody else, of this process or another, changes the store. It can be read meanwhile.
func (s *Store) exclusive(ctx context.Context, fn func() error) error {
	return s.flocked(ctx, unix.LOCK_EX, fn)
}

// try is exclusive, or EWOULDBLOCK at once.
func (s *Store) try(fn func() error) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(unix.EWOULDBLOCK)
	return s.exclusive(ctx, fn)
}

// flocked runs fn with a lock that keeps those out who change the store (LOCK_SH), or everybody who locks it (LOCK_EX).
func (s *Store) flocked(ctx context.Context, how int, fn func() error) error {
	if err := os.MkdirAll(filepath.Join(s.dir, "layers"), 0o700); err != nil {
		return fmt.Errorf("make the image store: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock the image store: %w", err)
	}
	defer lock.Close()
	for {
		err := unix.Flock(int(lock.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return fn()
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock the image store: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lockEvery):
		}
	}
}

// save replaces the index, durably: images outlive the machine's restart.
func (s *Store) save(images []Image) error {
	changed, err := s.replace(s.indexPath(), stored(images))
	if err != nil {
		return fmt.Errorf("write the image index: %w", err)
	}
	s.images, s.read = images, changed
	return nil
}

// replace writes a file of the store as a whole and gives its modification time.
func (s *Store) replace(path string, value any) (time.Time, error) {
	raw, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return time.Time{}, err
	}
	return s.replaceRaw(path, raw)
}

func (s *Store) replaceRaw(path string, raw []byte) (time.Time, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return time.Time{}, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return time.Time{}, err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return time.Time{}, err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return time.Time{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// sweep removes layers that no image uses and what interrupted imports left.
func (s *Store) sweep() error {
	used := s.used()
	for _, dir := range []string{"layers", "configs"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for unused layers: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(s.dir, dir, e.Name())
			if used[path] {
				continue
			}
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("remove an unused layer: %w", err)
			}
		}
	}
	return nil
}

// used are the files and directories that images need.
func (s *Store) used() map[string]bool {
	used := map[string]bool{}
	for _, img := range s.images {
		used[s.configPath(strings.TrimPrefix(img.ID, "sha256:"))] = true
		for _, layer := range img.Layers {
			used[layer], used[keptPath(layer)] = true, true
		}
	}
	return used
}

func (s *Store) configPath(hex string) string { return filepath.Join(s.dir, "configs", hex+".json") }

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
