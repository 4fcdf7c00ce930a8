package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/image"
	"svcplane/node/runtime/preload"
	"svcplane/node/runtime/pull"
)

// foundImage is what a container's image reference stands for.
type foundImage struct {
	kind string
	id   string
}

func (r *Runtime) findImage(spec *runtimeapi.ImageSpec) (foundImage, error) {
	ref := spec.GetImage()
	if err := r.images.Load(); err != nil { // another process imports
		return foundImage{}, err
	}
	switch r.images.Builtin(ref) {
	case image.Echo:
		return foundImage{kind: kindEcho, id: image.Echo}, nil
	case image.Host:
		return foundImage{kind: kindHost, id: image.Host}, nil
	}
	img, err := r.images.Get(ref)
	if err != nil {
		return foundImage{}, imageError(ref, err)
	}
	return foundImage{kind: kindImage, id: img.ID}, nil
}

// newPreload imports archives into a store.
func newPreload(images *image.Store, cfg Config) *preload.Importer {
	return preload.New(preload.Config{
		Dir: cfg.Archives, State: filepath.Join(cfg.DataDir, "images", "archives.json"), Import: images.ImportAll,
		Have: func(ref string) bool {
			if images.Load() != nil {
				return false
			}
			_, err := images.Get(ref)
			return err == nil
		},
	})
}

// imageError is a gRPC status with the way out for people.
func imageError(ref string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return status.Errorf(codes.NotFound, "image %q is not in the local store; import it with: svcplane image import %s ARCHIVE; or have another one stand for it: svcplane image alias %s svcplane/echo", ref, ref, ref)
	}
	return status.Errorf(codes.InvalidArgument, "image %q: %v", ref, err)
}

// PullImage finds out what a name stands for in its registry, and fetches that if it is not here. Builtin images, aliases and
// what was imported by hand are what they are: no registry is asked.
func (r *Runtime) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	found, err := r.findImage(spec)
	if status.Code(err) == codes.NotFound && r.preload != nil {
		select { // it may be in an archive that was there before the server
		case <-r.preload.Looked():
			found, err = r.findImage(spec)
		case <-ctx.Done():
			return "", pullError(spec.GetImage(), context.Cause(ctx))
		}
	}
	if r.puller == nil || err == nil && !r.lookedUp(spec.GetImage(), found) {
		return found.id, err
	}
	img, err := r.puller.pull(ctx, spec.GetImage(), auth)
	if err != nil {
		return "", pullError(spec.GetImage(), err)
	}
	return img.ID, nil
}

// PullProgress says how far the pull of an image is; ok is false if none is under way.
func (r *Runtime) PullProgress(ref string) (done, total int64, ok bool) {
	parsed, err := name.ParseReference(ref)
	if err != nil || r.puller == nil {
		return 0, 0, false
	}
	return r.puller.progress(parsed)
}

// Preloaded says whether a name stands for something here that no registry is asked about.
func (r *Runtime) Preloaded(ref string) bool {
	found, err := r.findImage(&runtimeapi.ImageSpec{Image: ref})
	return err == nil && !r.lookedUp(ref, found)
}

// lookedUp says whether what a name stands for is for its registry to say.
func (r *Runtime) lookedUp(ref string, found foundImage) bool {
	if found.kind != kindImage || r.images.IsAlias(ref) {
		return false
	}
	img, err := r.images.Get(found.id)
	return err == nil && img.Pulled
}

// pullError is a gRPC status with the registry's reason and the way out for people.
func pullError(ref string, err error) error {
	if errors.Is(err, context.Canceled) {
		return status.Error(codes.Canceled, err.Error())
	}
	return status.Errorf(codes.Unknown, "failed to pull image %q: %v; without that registry: svcplane image import %s ARCHIVE, or svcplane image alias %s svcplane/echo", ref, err, ref, ref)
}

// ImageStatus describes an image; Image is nil if there is none, as CRI has it.
func (r *Runtime) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	if err := r.images.Load(); err != nil {
		return nil, err
	}
	if builtin := r.images.Builtin(spec.GetImage()); builtin != "" {
		return &runtimeapi.ImageStatusResponse{Image: r.builtinImage(builtin)}, nil
	}
	img, err := r.images.Get(spec.GetImage())
	if errors.Is(err, fs.ErrNotExist) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, imageError(spec.GetImage(), err)
	}
	return &runtimeapi.ImageStatusResponse{Image: r.criImage(img)}, nil
}

// ListImages lists the builtin images and those of the local store.
func (r *Runtime) ListImages(_ context.Context, filter *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	if err := r.images.Load(); err != nil {
		return nil, err
	}
	if wanted := filter.GetImage().GetImage(); wanted != "" {
		response, err := r.ImageStatus(context.Background(), filter.GetImage(), false)
		if err != nil || response.GetImage() == nil {
			return nil, err
		}
		return []*runtimeapi.Image{response.GetImage()}, nil
	}
	list := []*runtimeapi.Image{r.builtinImage(image.Echo), r.builtinImage(image.Host)}
	for _, img := range r.images.List() {
		list = append(list, r.criImage(img))
	}
	return list, nil
}

// builtinImage describes a builtin image; its aliases are names of it, too.
func (r *Runtime) builtinImage(name string) *runtimeapi.Image {
	tags := []string{name + ":latest"}
	for _, alias := range r.images.Aliases() {
		if alias.Target == name {
			tags = append(tags, image.Shown(alias.Ref))
		}
	}
	return &runtimeapi.Image{Id: name, RepoTags: tags, Spec: &runtimeapi.ImageSpec{Image: name}, Pinned: true}
}

func (r *Runtime) criImage(img image.Image) *runtimeapi.Image {
	out := &runtimeapi.Image{Id: img.ID, RepoTags: shown(img.Tags), RepoDigests: shown(img.Digests), Size: uint64(img.Size), Pinned: r.images.Pinned(img), Spec: &runtimeapi.ImageSpec{Image: img.ID}}
	if uid, ok := img.UID(); ok {
		out.Uid = &runtimeapi.Int64Value{Value: uid}
	} else {
		out.Username = img.UserName()
	}
	return out
}

func shown(refs []string) []string {
	out := make([]string, len(refs))
	for i, ref := range refs {
		out[i] = image.Shown(ref)
	}
	return out
}

// RemoveImage removes an image that no container uses; that there is none is no error.
func (r *Runtime) RemoveImage(_ context.Context, spec *runtimeapi.ImageSpec) error {
	if err := r.images.Load(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var users []image.Use
	for _, c := range r.containers {
		if pod := r.sandboxes[c.SandboxID]; pod != nil {
			users = append(users, imageUse(r.images, pod, c))
		}
	}
	return removeError(r.images.Remove(spec.GetImage(), users))
}

// RemoveImage removes an image, or an alias, from the store of a data directory, whether a server runs on it or not:
// containers outlive it.
func RemoveImage(dataDir, ref string) error {
	images := image.NewStore(filepath.Join(dataDir, "images"))
	users, err := recordedUses(dataDir, images)
	if err != nil {
		return err
	}
	if err := images.Remove(ref, users); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("no image or alias %q is in the local store; see svcplane image list", ref)
		}
		return err
	}
	return nil
}

// PruneImages removes the images of a data directory that no container uses, whether a server runs on it or not, and what
// pulls have left that nobody goes on with. What was imported stays, unless all is said.
func PruneImages(dataDir string, all bool) (removed []image.Image, freed int64, err error) {
	images := image.NewStore(filepath.Join(dataDir, "images"))
	users, err := recordedUses(dataDir, images)
	if err != nil {
		return nil, 0, err
	}
	if removed, freed, err = images.Prune(all, users); err != nil {
		return removed, freed, err
	}
	return removed, freed, pull.Tidy(BlobDir(dataDir), abandoned)
}

// abandoned is how long nobody has touched what a pull has left, when room is wanted.
const abandoned = time.Hour

// recordedUses tells what containers need of a store, by their records.
func recordedUses(dataDir string, images *image.Store) ([]image.Use, error) {
	s := store{dir: dataDir}
	if err := images.Load(); err != nil {
		return nil, err
	}
	ids, err := s.ids("containers")
	if err != nil {
		return nil, err
	}
	var users []image.Use
	for _, id := range ids {
		c, err := s.loadContainer(id)
		if err != nil {
			continue // on its way out, or broken: the next start removes it
		}
		if pod, err := s.loadSandbox(c.SandboxID); err == nil {
			users = append(users, imageUse(images, pod, c))
		}
	}
	return users, nil
}

// imageUse tells what a container needs of the store.
func imageUse(images *image.Store, pod *sandboxEntry, c *containerEntry) image.Use {
	use := image.Use{
		Container: c.config.GetMetadata().GetName() + " of pod " + podName(pod.config),
		IDs:       []string{c.ImageID},
		Refs:      []string{c.config.GetImage().GetImage(), c.config.GetImage().GetUserSpecifiedImage()},
	}
	for _, m := range c.config.GetMounts() {
		if m.GetImage().GetImage() == "" {
			continue
		}
		use.Refs = append(use.Refs, m.GetImage().GetImage(), m.GetImage().GetUserSpecifiedImage())
		if volume, err := images.Get(m.GetImage().GetImage()); err == nil {
			use.IDs = append(use.IDs, volume.ID)
		}
	}
	return use
}

// removeError is the gRPC status of a removal.
func removeError(err error) error {
	switch _, used := errors.AsType[image.InUse](err); {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	case used:
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return status.Error(codes.InvalidArgument, err.Error())
}

// ImageFsInfo tells how full the file systems are.
func (r *Runtime) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	usage := func(dir string) (*runtimeapi.FilesystemUsage, error) {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			return nil, fmt.Errorf("look at the file system of %s: %w", dir, err)
		}
		return &runtimeapi.FilesystemUsage{
			Timestamp: time.Now().UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: dir},
			UsedBytes:  &runtimeapi.UInt64Value{Value: (s.Blocks - s.Bfree) * uint64(s.Bsize)},
			InodesUsed: &runtimeapi.UInt64Value{Value: s.Files - s.Ffree},
		}, nil
	}
	images, err := usage(filepath.Join(r.cfg.DataDir, "images"))
	if err != nil {
		return nil, err
	}
	containers, err := usage(filepath.Join(r.cfg.DataDir, "containers"))
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ImageFsInfoResponse{
		ImageFilesystems: []*runtimeapi.FilesystemUsage{images}, ContainerFilesystems: []*runtimeapi.FilesystemUsage{containers},
	}, nil
}
