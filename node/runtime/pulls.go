package runtime

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/image"
	"svcplane/node/runtime/pull"
)

// BlobDir is where parts of images lie until they are unpacked.
func BlobDir(dataDir string) string { return filepath.Join(dataDir, "blobs") }

// pullsAtOnce bounds the images that are fetched at the same time.
const pullsAtOnce = 4

// puller fetches images into a store. Whoever asks for an image that is on its way waits for that.
type puller struct {
	store    *image.Store
	registry *pull.Puller
	places   chan struct{}

	mu      sync.Mutex
	flights map[string]*flight
}

// flight is an image on its way. It ends when nobody waits for it any more.
type flight struct {
	done    chan struct{}
	img     image.Image
	err     error
	waiting int
	cancel  context.CancelFunc

	came, total atomic.Int64 // octets that are there, and of all
}

func newPuller(store *image.Store, blobs, registries string) *puller {
	return &puller{store: store, registry: pull.New(pull.Config{Dir: blobs, Registries: registries}),
		places: make(chan struct{}, pullsAtOnce), flights: map[string]*flight{}}
}

func (p *puller) pull(ctx context.Context, ref string, auth *runtimeapi.AuthConfig) (image.Image, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return image.Image{}, err
	}
	f := p.join(ctx, parsed, authOf(auth))
	select {
	case <-f.done:
		return f.img, f.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	if f.waiting--; f.waiting == 0 {
		f.cancel()
	}
	p.mu.Unlock()
	return image.Image{}, context.Cause(ctx)
}

func authOf(auth *runtimeapi.AuthConfig) *authn.AuthConfig {
	if auth == nil {
		return nil
	}
	return &authn.AuthConfig{Username: auth.GetUsername(), Password: auth.GetPassword(), Auth: auth.GetAuth(),
		IdentityToken: auth.GetIdentityToken(), RegistryToken: auth.GetRegistryToken()}
}

// join finds the flight of an image, with the same credentials, or begins one.
func (p *puller) join(ctx context.Context, ref name.Reference, auth *authn.AuthConfig) *flight {
	key := ref.Name()
	if auth != nil {
		key += "\x00" + auth.Username + "\x00" + auth.Password + "\x00" + auth.Auth + "\x00" + auth.IdentityToken + "\x00" + auth.RegistryToken
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flights[key]; f != nil && f.waiting > 0 {
		f.waiting++
		return f
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), waiting: 1, cancel: cancel}
	p.flights[key] = f
	go func() {
		defer cancel()
		f.img, f.err = p.fetch(ctx, pull.Request{Ref: ref, Auth: auth, Progress: func(done, total int64) {
			f.came.Store(done)
			f.total.Store(total)
		}})
		p.mu.Lock()
		if p.flights[key] == f {
			delete(p.flights, key)
		}
		p.mu.Unlock()
		close(f.done)
	}()
	return f
}

// progress says how far the pull of an image is, with whichever credentials.
func (p *puller) progress(ref name.Reference) (done, total int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, f := range p.flights {
		if key == ref.Name() || strings.HasPrefix(key, ref.Name()+"\x00") {
			if at := f.came.Load(); !ok || at > done {
				done, total, ok = at, f.total.Load(), true
			}
		}
	}
	return done, total, ok
}

func (p *puller) fetch(ctx context.Context, r pull.Request) (image.Image, error) {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	case <-ctx.Done():
		return image.Image{}, context.Cause(ctx)
	}
	return pullInto(ctx, p.store, p.registry, r)
}

// pullInto fetches an image and unpacks it.
func pullInto(ctx context.Context, store *image.Store, registry *pull.Puller, r pull.Request) (image.Image, error) {
	if err := store.Load(); err != nil {
		return image.Image{}, err
	}
	r.Choose, r.HaveImage, r.HaveLayer = func(i v1.ImageIndex) (v1.Image, error) { return image.FromIndex(i) }, store.HasImage, store.HasLayer
	fetched, err := registry.Pull(ctx, r)
	if err != nil {
		return image.Image{}, err
	}
	if fetched.Present {
		return store.Name(r.Ref, fetched.ID, fetched.Digest)
	}
	img, err := store.Add(ctx, r.Ref, fetched.Image, fetched.Digest)
	if err != nil {
		return image.Image{}, err
	}
	fetched.Discard()
	return img, nil
}

// PullImage fetches an image into the store of a data directory, whether a server runs on it or not. progress may be nil.
func PullImage(ctx context.Context, dataDir, registries, ref string, progress func(done, total int64)) (image.Image, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return image.Image{}, err
	}
	if image.Builtin(ref) != "" {
		return image.Image{}, errors.New(ref + " is part of svcplane: there is nothing to pull")
	}
	store := image.NewStore(filepath.Join(dataDir, "images"))
	return pullInto(ctx, store, pull.New(pull.Config{Dir: BlobDir(dataDir), Registries: registries}), pull.Request{Ref: parsed, Progress: progress})
}
