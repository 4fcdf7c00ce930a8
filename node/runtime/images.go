package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/image"
)

// foundImage is what a container's image reference stands for.
type foundImage struct {
	kind string
	id   string
}

func (r *Runtime) findImage(spec *runtimeapi.ImageSpec) (foundImage, error) {
	ref := spec.GetImage()
	switch image.Builtin(ref) {
	case image.Echo:
		return foundImage{kind: kindEcho, id: image.Echo}, nil
	case image.Host:
		return foundImage{kind: kindHost, id: image.Host}, nil
	}
	if err := r.images.Load(); err != nil { // another process imports
		return foundImage{}, err
	}
	img, err := r.images.Get(ref)
	if err != nil {
		return foundImage{}, imageError(ref, err)
	}
	return foundImage{kind: kindImage, id: img.ID}, nil
}

// imageError is a gRPC status with the way out for people.
func imageError(ref string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return status.Errorf(codes.NotFound, "image %q is not in the local store; import it with: svcplane image import %s ARCHIVE", ref, ref)
	}
	return status.Errorf(codes.InvalidArgument, "image %q: %v", ref, err)
}

// PullImage finds the image in the local store: nothing is fetched from a registry.
func (r *Runtime) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	found, err := r.findImage(spec)
	return found.id, err
}

// ImageStatus describes an image; Image is nil if there is none, as CRI has it.
func (r *Runtime) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	if builtin := image.Builtin(spec.GetImage()); builtin != "" {
		return &runtimeapi.ImageStatusResponse{Image: builtinImage(builtin)}, nil
	}
	if err := r.images.Load(); err != nil {
		return nil, err
	}
	img, err := r.images.Get(spec.GetImage())
	if errors.Is(err, fs.ErrNotExist) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, imageError(spec.GetImage(), err)
	}
	return &runtimeapi.ImageStatusResponse{Image: criImage(img)}, nil
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
	list := []*runtimeapi.Image{builtinImage(image.Echo), builtinImage(image.Host)}
	for _, img := range r.images.List() {
		list = append(list, criImage(img))
	}
	return list, nil
}

func builtinImage(name string) *runtimeapi.Image {
	return &runtimeapi.Image{Id: name, RepoTags: []string{name + ":latest"}, Spec: &runtimeapi.ImageSpec{Image: name}, Pinned: true}
}

func criImage(img image.Image) *runtimeapi.Image {
	out := &runtimeapi.Image{Id: img.ID, RepoTags: img.Tags, RepoDigests: img.Digests, Size: uint64(img.Size), Spec: &runtimeapi.ImageSpec{Image: img.ID}}
	if uid, ok := img.UID(); ok {
		out.Uid = &runtimeapi.Int64Value{Value: uid}
	} else {
		out.Username = img.UserName()
	}
	return out
}

// RemoveImage removes an image that no container uses; that there is none is no error.
func (r *Runtime) RemoveImage(_ context.Context, spec *runtimeapi.ImageSpec) error {
	if image.Builtin(spec.GetImage()) != "" {
		return status.Errorf(codes.InvalidArgument, "image %s is part of svcplane and can't be removed", spec.GetImage())
	}
	img, err := r.images.Get(spec.GetImage())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return imageError(spec.GetImage(), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		mounted := slices.ContainsFunc(c.config.GetMounts(), func(m *runtimeapi.Mount) bool {
			volume, err := r.images.Get(m.GetImage().GetImage())
			return err == nil && volume.ID == img.ID
		})
		if c.ImageID == img.ID || mounted {
			return status.Errorf(codes.FailedPrecondition, "image %s is used by container %s; delete its pod first", spec.GetImage(), c.config.GetMetadata().GetName())
		}
	}
	return r.images.Remove(img.ID)
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
