package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fakeRuntime is a runtime whose containers are entries in a map. It keeps the rules of CRI that a node can
// get wrong: a container needs a ready sandbox and its image, a stopped sandbox kills what is in it.
type fakeRuntime struct {
	internalapi.RuntimeService // what it does not implement panics

	mu         sync.Mutex
	next       int
	sandboxes  map[string]*runtimeapi.PodSandboxStatus
	containers map[string]*fakeContainer
	images     map[string]bool
	calls      []string // what was done, in order
	stubborn   bool     // containers ignore SIGTERM until the grace period has passed
	exec       func(cmd []string) error
	sandboxErr error
	stats      []*runtimeapi.PodSandboxStats
}

func (f *fakeRuntime) setStats(all ...*runtimeapi.PodSandboxStats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats = all
}

func (f *fakeRuntime) ListPodSandboxStats(context.Context, *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats, nil
}

type fakeContainer struct {
	runtimeapi.ContainerStatus
	config  *runtimeapi.ContainerConfig
	sandbox string
	ended   chan struct{}
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{
		sandboxes:  map[string]*runtimeapi.PodSandboxStatus{},
		containers: map[string]*fakeContainer{},
		images:     map[string]bool{"app:1": true, "app:2": true},
	}
}

func (f *fakeRuntime) note(format string, args ...any) {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fakeRuntime) did() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func notFound(id string) error { return grpcstatus.Errorf(codes.NotFound, "%s does not exist", id) }

func (f *fakeRuntime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{RuntimeName: "fake", RuntimeVersion: "1"}, nil
}

func (f *fakeRuntime) Status(context.Context, bool) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true},
	}}}, nil
}

func (f *fakeRuntime) RunPodSandbox(_ context.Context, c *runtimeapi.PodSandboxConfig, _ string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sandboxErr != nil {
		return "", f.sandboxErr
	}
	f.next++
	id := fmt.Sprintf("s%d", f.next)
	f.sandboxes[id] = &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: c.Metadata, CreatedAt: time.Now().UnixNano(), Labels: c.Labels, Annotations: c.Annotations,
		State:   runtimeapi.PodSandboxState_SANDBOX_READY,
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: fmt.Sprintf("127.0.0.%d", 10+f.next)},
	}
	f.note("sandbox %s", c.Metadata.Name)
	return id, nil
}

func (f *fakeRuntime) StopPodSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sandboxes[id]
	if !ok {
		return nil
	}
	for _, c := range f.containers {
		if c.sandbox == id {
			f.end(c, 137)
		}
	}
	s.State, s.Network = runtimeapi.PodSandboxState_SANDBOX_NOTREADY, nil
	f.note("stop sandbox %s", s.Metadata.Name)
	return nil
}

func (f *fakeRuntime) RemovePodSandbox(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.sandboxes[id]; ok {
		f.note("remove sandbox %s", s.Metadata.Name)
	}
	delete(f.sandboxes, id)
	return nil
}

func (f *fakeRuntime) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sandboxes[id]
	if !ok {
		return nil, notFound(id)
	}
	copied := proto.Clone(s).(*runtimeapi.PodSandboxStatus)
	return &runtimeapi.PodSandboxStatusResponse{Status: copied}, nil
}

func selected(labels, selector map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

func (f *fakeRuntime) ListPodSandbox(_ context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*runtimeapi.PodSandbox
	for _, s := range f.sandboxes {
		if selected(s.Labels, filter.GetLabelSelector()) {
			list = append(list, &runtimeapi.PodSandbox{Id: s.Id, Metadata: s.Metadata, State: s.State, CreatedAt: s.CreatedAt, Labels: s.Labels, Annotations: s.Annotations})
		}
	}
	return list, nil
}

func (f *fakeRuntime) CreateContainer(_ context.Context, sandbox string, c *runtimeapi.ContainerConfig, s *runtimeapi.PodSandboxConfig) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if box, ok := f.sandboxes[sandbox]; !ok || box.State != runtimeapi.PodSandboxState_SANDBOX_READY {
		return "", fmt.Errorf("sandbox %s is not ready", sandbox)
	}
	f.next++
	id := fmt.Sprintf("c%d", f.next)
	f.containers[id] = &fakeContainer{
		config: c, sandbox: sandbox, ended: make(chan struct{}),
		ContainerStatus: runtimeapi.ContainerStatus{
			Id: id, Metadata: c.Metadata, State: runtimeapi.ContainerState_CONTAINER_CREATED, CreatedAt: time.Now().UnixNano(),
			Image: c.Image, ImageRef: c.Image.Image, Labels: c.Labels, Annotations: c.Annotations,
			LogPath: filepath.Join(s.LogDirectory, c.LogPath),
		},
	}
	return id, nil
}

func (f *fakeRuntime) StartContainer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	c.State, c.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now().UnixNano()
	line := fmt.Sprintf("%s stdout F hello from %s\n", time.Now().UTC().Format(time.RFC3339Nano), id)
	if err := os.WriteFile(c.LogPath, []byte(line), 0o600); err != nil {
		return err
	}
	f.note("start %s", c.Metadata.Name)
	return nil
}

// end marks a container as ended; f.mu is held.
func (f *fakeRuntime) end(c *fakeContainer, code int32) {
	if c.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		return
	}
	c.State, c.ExitCode, c.FinishedAt = runtimeapi.ContainerState_CONTAINER_EXITED, code, time.Now().UnixNano()
	close(c.ended)
}

func (f *fakeRuntime) StopContainer(ctx context.Context, id string, grace int64) error {
	f.mu.Lock()
	c, ok := f.containers[id]
	if !ok {
		f.mu.Unlock()
		return notFound(id)
	}
	f.note("stop %s %d", c.Metadata.Name, grace)
	if !f.stubborn {
		f.end(c, 143)
	}
	f.mu.Unlock()
	select {
	case <-c.ended:
	case <-time.After(time.Duration(grace) * time.Second):
		f.mu.Lock()
		f.end(c, 137)
		f.mu.Unlock()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (f *fakeRuntime) RemoveContainer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.containers, id)
	return nil
}

func (f *fakeRuntime) ListContainers(_ context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*runtimeapi.Container
	for _, c := range f.containers {
		if selected(c.Labels, filter.GetLabelSelector()) {
			list = append(list, &runtimeapi.Container{Id: c.Id, Metadata: c.Metadata, State: c.State, CreatedAt: c.CreatedAt, Labels: c.Labels, Annotations: c.Annotations, PodSandboxId: c.sandbox})
		}
	}
	return list, nil
}

func (f *fakeRuntime) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.containers[id]
	if !ok {
		return nil, notFound(id)
	}
	copied := proto.Clone(&c.ContainerStatus).(*runtimeapi.ContainerStatus)
	return &runtimeapi.ContainerStatusResponse{Status: copied}, nil
}

func (f *fakeRuntime) GetContainerEvents(context.Context, chan *runtimeapi.ContainerEventResponse, func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	return grpcstatus.Error(codes.Unimplemented, "no events")
}

func (f *fakeRuntime) ExecSync(_ context.Context, _ string, cmd []string, _ time.Duration) ([]byte, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note("exec %v", cmd)
	if f.exec != nil {
		return nil, nil, f.exec(cmd)
	}
	return nil, nil, nil
}

// crash ends the running container of that name, as if its process had exited.
func (f *fakeRuntime) crash(name string, code int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.Metadata.Name == name && c.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			f.end(c, code)
		}
	}
}

// config gives what the newest container of that name was created with.
func (f *fakeRuntime) config(name string) *runtimeapi.ContainerConfig {
	f.mu.Lock()
	defer f.mu.Unlock()
	var newest *fakeContainer
	for _, c := range f.containers {
		if c.Metadata.Name == name && (newest == nil || c.CreatedAt > newest.CreatedAt) {
			newest = c
		}
	}
	if newest == nil {
		return nil
	}
	return newest.config
}

// fakeImages has the images of its runtime and can pull none.
type fakeImages struct {
	internalapi.ImageManagerService
	rt *fakeRuntime
}

func (f fakeImages) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	f.rt.mu.Lock()
	defer f.rt.mu.Unlock()
	if !f.rt.images[spec.Image] {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: "sha256:" + spec.Image}}, nil
}

func (f fakeImages) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	f.rt.mu.Lock()
	defer f.rt.mu.Unlock()
	all := []*runtimeapi.Image{{Id: "builtin"}}
	for image := range f.rt.images {
		all = append(all, &runtimeapi.Image{Id: "sha256:" + image, RepoTags: []string{image}, Size: uint64(image[len(image)-1])})
	}
	return all, nil
}

func (f fakeImages) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	return "", grpcstatus.Errorf(codes.NotFound, "image %s is not in the store", spec.Image)
}

func (f fakeImages) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	use := []*runtimeapi.FilesystemUsage{{FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: "/"}, UsedBytes: &runtimeapi.UInt64Value{Value: 1 << 20}}}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: use, ContainerFilesystems: use}, nil
}
