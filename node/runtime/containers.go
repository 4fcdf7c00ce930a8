package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
	"svcplane/node/runtime/shim"
)

// CreateContainer records a container; it costs nothing until it is started.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, config *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	if err := r.waitReady(ctx); err != nil {
		return "", err
	}
	pod, err := r.sandbox(sandboxID)
	if err != nil {
		return "", err
	}
	if config.GetMetadata() == nil {
		return "", status.Error(codes.InvalidArgument, "create container: metadata is missing")
	}
	img, err := r.findImage(config.GetImage())
	if err != nil {
		return "", err
	}
	if err := r.mayRun(pod, img.kind); err != nil {
		return "", err
	}
	raw, err := protojson.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("record container %s of pod %s: %w", config.GetMetadata().GetName(), podName(pod.config), err)
	}
	entry := &containerEntry{config: config, containerRecord: containerRecord{
		ID: newID(), SandboxID: pod.ID, Config: raw, Kind: img.kind, ImageID: img.id, State: containerCreated, CreatedAt: time.Now(),
	}}
	if config.GetLogPath() != "" {
		entry.LogPath = filepath.Join(pod.config.GetLogDirectory(), config.GetLogPath())
	}
	// Whatever can't be run is refused now, before anything is started.
	if _, err = r.containerSpec(pod, entry); err == nil {
		_, err = r.makeFilter(config.GetLinux().GetSecurityContext()) // svcplane/echo has one for what is executed in it
	}
	if err != nil {
		return "", status.Errorf(codes.InvalidArgument, "create container %s of pod %s: %v", config.GetMetadata().GetName(), podName(pod.config), err)
	}
	if err := r.addContainer(pod, entry); err != nil {
		return "", err
	}
	r.notify(entry, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	return entry.ID, nil
}

func (r *Runtime) addContainer(pod *sandboxEntry, entry *containerEntry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pod.State != sandboxReady {
		return status.Errorf(codes.FailedPrecondition, "create container: the sandbox of pod %s is not ready", podName(pod.config))
	}
	stage := filepath.Join(r.store.containerDir(entry.ID), "stage")
	if err := os.MkdirAll(stage, 0o700); err != nil {
		return fmt.Errorf("make the directory of a container: %w", err)
	}
	if err := r.keepFilter(entry); err != nil {
		return err
	}
	if err := r.store.saveContainer(entry.containerRecord); err != nil {
		return err
	}
	r.containers[entry.ID] = entry
	return nil
}

// StartContainer has the shim run a created container.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	entry, err := r.container(ctx, id)
	if err != nil {
		return err
	}
	entry.op.Lock()
	defer entry.op.Unlock()
	pod, err := r.sandbox(entry.SandboxID)
	if err != nil {
		return err
	}
	r.mu.Lock()
	state, podState := entry.State, pod.State
	r.mu.Unlock()
	if state != containerCreated || podState != sandboxReady {
		return status.Errorf(codes.FailedPrecondition, "start container %s of pod %s: it is %s and its sandbox is %s", sandbox.Short(entry.ID), podName(pod.config), state, podState)
	}
	if err := r.mayRun(pod, entry.Kind); err != nil {
		return err
	}
	if err := r.copyImages(ctx, entry); err != nil {
		return fmt.Errorf("start container %s of pod %s: %w", entry.config.GetMetadata().GetName(), podName(pod.config), err)
	}
	spec, err := r.containerSpec(pod, entry)
	if err != nil {
		return err
	}
	if err := r.ensureShim(ctx); err != nil {
		return err
	}
	if spec.Root.PIDNS, err = r.targetPIDs(ctx, entry); err != nil {
		return err
	}
	if entry.Kind != kindEcho {
		if err := r.makeGroup(pod, entry); err != nil {
			return fmt.Errorf("start container %s of pod %s: %w", entry.config.GetMetadata().GetName(), podName(pod.config), err)
		}
	}
	begun, err := r.shim.StartContainer(ctx, spec)
	if err != nil {
		err = fmt.Errorf("start container %s of pod %s: %w", entry.config.GetMetadata().GetName(), podName(pod.config), err)
		return errors.Join(err, r.neverRan(entry, err))
	}
	r.enterGroup(spec.Root.Cgroup, begun)
	_, err = r.apply(entry, begun)
	r.notify(entry, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return err
}

// startErrorCode is the exit code of a container that could not be started, as containerd gives it.
const startErrorCode = 128

// neverRan records the end of a container that the shim could not start: what asked for it then waits before it
// tries another one, as after any end.
func (r *Runtime) neverRan(entry *containerEntry, why error) error {
	if _, refused := errors.AsType[shim.Refusal](why); !refused {
		return nil // the shim may have started it: it will tell
	}
	r.dropGroup(entry)
	_, err := r.apply(entry, shim.ContainerStatus{
		ID: entry.ID, SandboxID: entry.SandboxID, State: shim.Exited, FinishedAt: time.Now(),
		ExitCode: startErrorCode, Reason: "StartError", Message: why.Error(),
	})
	r.notify(entry, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	return err
}

// targetPIDs gives the PID namespace of the container whose processes this one is to see (kubectl debug --target),
// or nothing.
func (r *Runtime) targetPIDs(ctx context.Context, entry *containerEntry) (string, error) {
	options := entry.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	if options.GetPid() != runtimeapi.NamespaceMode_TARGET {
		return "", nil
	}
	target, err := r.container(ctx, options.GetTargetId())
	if err != nil {
		return "", err
	}
	pod, err := r.sandbox(target.SandboxID)
	if err != nil {
		return "", err
	}
	if err := r.mayEnter(pod, target.Kind); err != nil {
		return "", err
	}
	root, err := r.rootSpec(pod, target)
	if err != nil {
		return "", err
	}
	init, err := r.shim.Env(ctx, target.ID, root)
	if err != nil {
		return "", fmt.Errorf("share the processes of container %s: %w", target.config.GetMetadata().GetName(), err)
	}
	return process.NamespacesOf(init.PID).PID, nil
}

// StopContainer ends a container, by force after timeout seconds; it may be repeated.
func (r *Runtime) StopContainer(ctx context.Context, id string, timeout int64) error {
	entry, err := r.container(ctx, id)
	if status.Code(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	running := entry.State == containerRunning
	r.mu.Unlock()
	if !running || !r.shimAlive() {
		return nil
	}
	if err := r.shim.StopContainer(ctx, entry.ID, time.Duration(timeout)*time.Second); err != nil {
		return err
	}
	return r.merge(ctx, entry.ID)
}

// RemoveContainer removes a container and what it wrote, killing it if it runs; an unknown ID is no error.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	entry, err := r.container(ctx, id)
	if status.Code(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	entry.op.Lock()
	defer entry.op.Unlock()
	if r.shimAlive() {
		if err := r.shim.RemoveContainer(ctx, entry.ID); err != nil {
			return err
		}
	}
	r.dropGroup(entry)
	if err := r.store.removeContainer(entry.ID); err != nil {
		return err
	}
	r.mu.Lock()
	delete(r.containers, entry.ID)
	r.mu.Unlock()
	r.notify(entry, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	return nil
}

// ReopenContainerLog opens the log file anew after it was renamed.
func (r *Runtime) ReopenContainerLog(ctx context.Context, id string) error {
	entry, err := r.container(ctx, id)
	if err != nil {
		return err
	}
	return r.shim.ReopenLog(ctx, entry.ID)
}

func (r *Runtime) container(ctx context.Context, id string) (*containerEntry, error) {
	if err := r.waitReady(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	entry, err := findByID(r.containers, id)
	if err != nil {
		return nil, status.Errorf(codes.NotFound, "container %q: %v", id, err)
	}
	return entry, nil
}

// ListContainers lists the containers that filter selects, newest first.
func (r *Runtime) ListContainers(ctx context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	if err := r.waitReady(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*runtimeapi.Container
	for _, c := range r.containers {
		item := &runtimeapi.Container{
			Id: c.ID, PodSandboxId: c.SandboxID, Metadata: c.config.GetMetadata(), Image: c.config.GetImage(), ImageRef: c.ImageID, ImageId: c.ImageID,
			State: c.criState(), CreatedAt: c.CreatedAt.UnixNano(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		}
		if matches(filter.GetId(), c.ID) && matches(filter.GetPodSandboxId(), c.SandboxID) && selects(filter.GetLabelSelector(), item.Labels) &&
			(filter.GetState() == nil || filter.GetState().GetState() == item.State) {
			list = append(list, item)
		}
	}
	slices.SortFunc(list, func(a, b *runtimeapi.Container) int { return int(b.CreatedAt - a.CreatedAt) })
	return list, nil
}

// ContainerStatus describes one container.
func (r *Runtime) ContainerStatus(ctx context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	entry, err := r.container(ctx, id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &runtimeapi.ContainerStatusResponse{Status: entry.status()}, nil
}

func (c *containerEntry) criState() runtimeapi.ContainerState {
	switch c.State {
	case containerCreated:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	case containerRunning:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	case containerExited:
		return runtimeapi.ContainerState_CONTAINER_EXITED
	}
	return runtimeapi.ContainerState_CONTAINER_UNKNOWN
}

// status is the container in CRI's form; with Runtime.mu held.
func (c *containerEntry) status() *runtimeapi.ContainerStatus {
	s := &runtimeapi.ContainerStatus{
		Id: c.ID, Metadata: c.config.GetMetadata(), State: c.criState(), CreatedAt: c.CreatedAt.UnixNano(),
		Image: c.config.GetImage(), ImageRef: c.ImageID, ImageId: c.ImageID, LogPath: c.LogPath, Mounts: c.config.GetMounts(),
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		Reason: c.Status.Reason, Message: c.Status.Message, ExitCode: int32(c.Status.ExitCode),
	}
	if u := c.Status.User; u != nil {
		user := &runtimeapi.LinuxContainerUser{Uid: int64(u.UID), Gid: int64(u.GID)}
		for _, g := range u.Groups {
			user.SupplementalGroups = append(user.SupplementalGroups, int64(g))
		}
		s.User = &runtimeapi.ContainerUser{Linux: user}
	}
	if resources := c.config.GetLinux().GetResources(); resources != nil {
		s.Resources = &runtimeapi.ContainerResources{Linux: resources}
	}
	if !c.Status.StartedAt.IsZero() {
		s.StartedAt = c.Status.StartedAt.UnixNano()
	}
	if !c.Status.FinishedAt.IsZero() {
		s.FinishedAt = c.Status.FinishedAt.UnixNano()
	}
	return s
}

// apply takes over what the shim says of a container; whether that ended it.
func (r *Runtime) apply(entry *containerEntry, now shim.ContainerStatus) (exited bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if entry.State == containerExited || now.State == "" {
		return false, nil
	}
	state := containerRunning
	if now.State == shim.Exited {
		state = containerExited
	}
	if entry.State == state && reflect.DeepEqual(entry.Status, now) {
		return false, nil
	}
	entry.State, entry.Status = state, now
	if r.containers[entry.ID] != entry {
		return false, nil // it is being removed
	}
	return state == containerExited, behind(r.store.saveContainer(entry.containerRecord))
}

var errNoShim = errors.New("the shim process of the containers is gone")
