package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"
)

// Config is what a Puller needs.
type Config struct {
	Dir        string // of blobs that are being fetched; made if need be
	Registries string // path of registries.yaml, which need not exist; read at each pull
}

const (
	blobsAtOnce = 3 // of one image
	// KeepBlobs is how long what an abandoned pull has left is kept for the next.
	KeepBlobs = 7 * 24 * time.Hour
	maxLayers = 1000 // more than any builder makes: Docker's limit is 127
)

// Puller fetches images. It is safe for concurrent use, also by several processes.
type Puller struct {
	cfg  Config
	wait time.Duration // firstWait, but in tests
}

// New makes a Puller.
func New(cfg Config) *Puller { return &Puller{cfg, firstWait} }

// Request says which image is wanted.
type Request struct {
	Ref  name.Reference
	Auth *authn.AuthConfig // of the pod; nil: none
	// Choose takes the image for this machine out of an index.
	Choose func(v1.ImageIndex) (v1.Image, error)
	// HaveImage and HaveLayer say what need not be fetched: by the digest of a config, and of an uncompressed layer.
	HaveImage, HaveLayer func(v1.Hash) bool
	// Progress is called with the octets that are there and those of the whole image, by several goroutines; nil: nobody asks.
	Progress func(done, total int64)
}

// Fetched is an image whose blobs are there. Discard removes them.
type Fetched struct {
	v1.Image         // nil if Present
	Present  bool    // HaveImage has it
	ID       v1.Hash // of its config
	Digest   v1.Hash // of what the reference names: an index or a manifest
	Size     int64   // of config and layers
	Came     int64   // of these, what came over the network now
	dir      string
	blobs    []v1.Hash
}

// Discard removes the blobs, once the image was unpacked.
func (f *Fetched) Discard() {
	for _, digest := range f.blobs {
		os.Remove(blobPath(f.dir, digest)) // what stays is tidied up later
	}
}

// Pull fetches an image. The error says of each endpoint why it did not serve it, in the registry's own words.
func (p *Puller) Pull(ctx context.Context, r Request) (*Fetched, error) {
	registries, err := ReadRegistries(p.cfg.Registries)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory for parts of images: %w", err)
	}
	if err := Tidy(p.cfg.Dir, KeepBlobs); err != nil {
		return nil, fmt.Errorf("removing old parts of images: %w", err)
	}
	endpoints, err := registries.endpoints(r.Ref)
	if err != nil {
		return nil, err
	}
	told := announce(p.cfg.Dir, r.Ref.Name())
	defer told.end()
	if asked := r.Progress; asked == nil {
		r.Progress = told.tell
	} else {
		r.Progress = func(done, total int64) { asked(done, total); told.tell(done, total) }
	}
	var failed []error
	for _, e := range endpoints {
		fetched, err := p.from(ctx, &e, r)
		if err == nil {
			return fetched, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		failed = append(failed, fmt.Errorf("%s: %w", e.url.Host, err))
	}
	return nil, &PullError{Ref: r.Ref.Name(), Causes: failed}
}

// PullError says why no endpoint served an image.
type PullError struct {
	Ref    string
	Causes []error // one for each endpoint, in the order in which they were asked
}

// Error is one line.
func (e *PullError) Error() string {
	var all []string
	for _, cause := range e.Causes {
		all = append(all, line(cause.Error()))
	}
	return fmt.Sprintf("pulling %s: %s", e.Ref, strings.Join(all, "; "))
}

// line is what a registry said, as one line that a terminal and an Event can have: it says whatever it wants.
func line(text string) string {
	const most = 600
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// Unwrap gives the causes.
func (e *PullError) Unwrap() []error { return e.Causes }

// from fetches an image from one endpoint.
func (p *Puller) from(ctx context.Context, e *endpoint, r Request) (*Fetched, error) {
	base, err := e.transport()
	if err != nil {
		return nil, err
	}
	defer base.CloseIdleConnections()
	auth, err := e.authenticator(r.Auth)
	if err != nil {
		return nil, err
	}
	repo := e.ref.Context()
	authed, err := transport.NewWithContext(ctx, repo.Registry, auth, atPath{e, base}, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, plain(err)
	}
	described, err := remote.Get(e.ref, remote.WithContext(ctx), remote.WithTransport(authed))
	if err != nil {
		return nil, plain(err)
	}
	if !json.Valid(described.Manifest) {
		return nil, fmt.Errorf("it answers with a document of the type %q, which is no manifest: a proxy or a login page may be in between", described.MediaType)
	}
	img, err := imageOf(described, r.Choose)
	if err != nil {
		return nil, plain(err)
	}
	f := &fetch{
		request: r, dir: p.cfg.Dir, digest: described.Digest,
		blobs: blobs{client: &http.Client{Transport: authed}, base: fmt.Sprintf("%s://%s/v2/%s/blobs/", e.url.Scheme, repo.RegistryStr(), repo.RepositoryStr()), dir: p.cfg.Dir, wait: p.wait},
	}
	return f.run(ctx, img)
}

func imageOf(d *remote.Descriptor, choose func(v1.ImageIndex) (v1.Image, error)) (v1.Image, error) {
	if !d.MediaType.IsIndex() {
		return d.Image()
	}
	index, err := d.ImageIndex()
	if err != nil {
		return nil, err
	}
	return choose(index)
}

// plain is what a registry says, without the URL that was asked: the reference stands before it.
func plain(err error) error {
	if said, ok := errors.AsType[*transport.Error](err); ok && len(said.Errors) > 0 {
		return fmt.Errorf("%s (%d %s)", said.Errors[0], said.StatusCode, http.StatusText(said.StatusCode))
	}
	return err
}

// fetch is one image on its way.
type fetch struct {
	blobs
	request           Request
	dir               string
	digest            v1.Hash
	done, total, over atomic.Int64
}

func (f *fetch) run(ctx context.Context, img v1.Image) (*Fetched, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, plain(err)
	}
	raw, err := img.RawManifest()
	if err != nil {
		return nil, plain(err)
	}
	out := &Fetched{ID: manifest.Config.Digest, Digest: f.digest, dir: f.dir, Size: manifest.Config.Size}
	for _, l := range manifest.Layers {
		out.Size += l.Size
	}
	if f.request.HaveImage(manifest.Config.Digest) {
		out.Present = true
		return out, nil
	}
	if len(manifest.Layers) > maxLayers {
		return nil, fmt.Errorf("it has %d layers; at most %d are taken", len(manifest.Layers), maxLayers)
	}
	f.came, f.blobs.over = f.progress, &f.over
	f.total.Store(out.Size)
	f.progress(0)
	if err := f.fetch(ctx, manifest.Config); err != nil {
		return nil, fmt.Errorf("config %s: %w", manifest.Config.Digest, plain(err))
	}
	source, err := newSource(f.dir, raw, manifest)
	if err != nil {
		return nil, err
	}
	if err := f.layers(ctx, manifest, source.diffIDs); err != nil {
		return nil, err
	}
	out.Came = f.over.Load()
	out.blobs = append(out.blobs, manifest.Config.Digest)
	for _, l := range manifest.Layers {
		out.blobs = append(out.blobs, l.Digest)
	}
	out.Image, err = source.image()
	return out, err
}

// layers fetches those that are not unpacked here already.
func (f *fetch) layers(ctx context.Context, manifest *v1.Manifest, diffIDs []v1.Hash) error {
	var group errgroup.Group
	group.SetLimit(blobsAtOnce)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := map[v1.Hash]bool{}
	for i, l := range manifest.Layers {
		if seen[l.Digest] || i < len(diffIDs) && f.request.HaveLayer(diffIDs[i]) {
			f.progress(l.Size)
			continue
		}
		seen[l.Digest] = true
		if !l.MediaType.IsDistributable() {
			return fmt.Errorf("layer %d of %d (%s) is not in the registry: its type is %s", i+1, len(manifest.Layers), l.Digest, l.MediaType)
		}
		group.Go(func() error {
			if err := f.fetch(ctx, l); err != nil {
				cancel() // the others keep what they have for the next try
				if errors.Is(err, context.Canceled) {
					return err
				}
				return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(manifest.Layers), l.Digest, plain(err))
			}
			return nil
		})
	}
	return group.Wait()
}

func (f *fetch) progress(n int64) {
	done := f.done.Add(n)
	if f.request.Progress != nil {
		f.request.Progress(done, f.total.Load())
	}
}
