package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
)

// RunPodSandbox makes a pod's namespaces, joins it to the network and has the shim keep it.
func (r *Runtime) RunPodSandbox(ctx context.Context, config *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	if err := r.waitReady(ctx); err != nil {
		return "", err
	}
	if handler != "" {
		return "", status.Errorf(codes.InvalidArgument, "runtime handler %q is not known; this node has the default one only: remove runtimeClassName", handler)
	}
	if config.GetMetadata() == nil {
		return "", status.Error(codes.InvalidArgument, "run pod sandbox: metadata is missing")
	}
	if _, err := usersOf(config); err != nil {
		return "", status.Errorf(codes.InvalidArgument, "run the sandbox of pod %s: %v", podName(config), err)
	}
	entry, err := r.newSandbox(config)
	if err != nil {
		return "", err
	}
	entry.op.Lock()
	defer entry.op.Unlock()
	if err := r.makeSandbox(ctx, entry); err != nil {
		undo := r.teardown(context.WithoutCancel(ctx), entry)
		r.forgetSandbox(entry)
		return "", errors.Join(fmt.Errorf("run the sandbox of pod %s: %w", podName(config), err), undo, r.store.removeSandbox(entry.ID))
	}
	r.events.send(r.sandboxEvent(entry.ID, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT))
	return entry.ID, nil
}

// newSandbox records the sandbox, before anything of it exists.
func (r *Runtime) newSandbox(config *runtimeapi.PodSandboxConfig) (*sandboxEntry, error) {
	raw, err := protojson.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("record the sandbox of pod %s: %w", podName(config), err)
	}
	self, err := process.Identify(1)
	if err != nil {
		return nil, fmt.Errorf("identify this boot: %w", err)
	}
	entry := &sandboxEntry{config: config, sandboxRecord: sandboxRecord{
		ID: newID(), Config: raw, State: sandboxCreating, CreatedAt: time.Now(), Boot: self.Boot,
	}}
	if !hostNetwork(config) {
		if entry.IP, entry.IP6, err = r.network.Take(entry.ID); err != nil {
			return nil, err
		}
		err = portStatus(r.network.Add(entry.netPod()))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		err = r.store.saveSandbox(entry.sandboxRecord)
	}
	if err != nil {
		r.network.Release(entry.ID, entry.IP)
		return nil, err
	}
	r.sandboxes[entry.ID] = entry
	return entry, nil
}

func (r *Runtime) makeSandbox(ctx context.Context, entry *sandboxEntry) error {
	config, id := entry.config, entry.ID
	users, err := usersOf(config)
	if err != nil {
		return err
	}
	namespaces, err := sandbox.NewNamespaces(sandbox.Options{
		Hostname: config.GetHostname(), HostNet: hostNetwork(config), HostIPC: namespaceMode(config).GetIpc() == runtimeapi.NamespaceMode_NODE,
		Users: users,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	entry.namespaces = namespaces
	r.mu.Unlock()
	if !hostNetwork(config) {
		if err := r.network.Attach(id, namespaces.Net); err != nil {
			return err
		}
		if err := namespaces.Publish(sandbox.NetnsName(id)); err != nil {
			return err
		}
	}
	if err := r.applySysctls(config, namespaces); err != nil {
		return err
	}
	if err := r.writePodFiles(entry); err != nil {
		return err
	}
	if err := r.hold(ctx, entry); err != nil {
		return err
	}
	return r.setSandboxState(entry, sandboxReady)
}

func (r *Runtime) applySysctls(config *runtimeapi.PodSandboxConfig, in *sandbox.Namespaces) error {
	values := config.GetLinux().GetSysctls()
	if len(values) == 0 {
		return nil
	}
	return process.OnThread(func() error {
		paths := in.Paths()
		if err := (process.Namespaces{Net: paths.Net, IPC: paths.IPC}).Enter(); err != nil {
			return err
		}
		return sandbox.SetPodSysctls(values)
	})
}

// hold hands the sandbox's namespaces to the shim.
func (r *Runtime) hold(ctx context.Context, entry *sandboxEntry) error {
	if err := r.ensureShim(ctx); err != nil {
		return err
	}
	_, err := r.shim.AddSandbox(ctx, entry.shimSpec())
	return err
}

func (r *Runtime) setSandboxState(entry *sandboxEntry, state string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry.State = state
	return behind(r.store.saveSandbox(entry.sandboxRecord))
}

// StopPodSandbox kills what runs in the sandbox and takes it off the network; it may be repeated.
func (r *Runtime) StopPodSandbox(ctx context.Context, id string) error {
	entry, err := r.sandbox(id)
	if status.Code(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	entry.op.Lock()
	defer entry.op.Unlock()
	return r.stopSandbox(ctx, entry)
}

func (r *Runtime) stopSandbox(ctx context.Context, entry *sandboxEntry) error {
	r.mu.Lock()
	stopped := entry.State == sandboxStopped
	r.mu.Unlock()
	if stopped {
		return nil
	}
	if err := r.teardown(ctx, entry); err != nil {
		return fmt.Errorf("stop the sandbox of pod %s: %w", podName(entry.config), err)
	}
	if err := r.setSandboxState(entry, sandboxStopped); err != nil {
		return err
	}
	r.events.send(r.sandboxEvent(entry.ID, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT))
	return nil
}

// teardown undoes makeSandbox, however far that came.
func (r *Runtime) teardown(ctx context.Context, entry *sandboxEntry) error {
	var errs []error
	if r.shimAlive() {
		errs = append(errs, r.shim.RemoveSandbox(ctx, entry.ID), r.merge(ctx, entry.ID))
	}
	if !hostNetwork(entry.config) {
		errs = append(errs, r.network.Detach(entry.ID))
	}
	r.mu.Lock()
	entry.gone = true
	r.mu.Unlock()
	r.dropPodGroup(entry)
	r.mu.Lock()
	defer r.mu.Unlock()
	if entry.namespaces != nil {
		entry.namespaces.Close()
		entry.namespaces = nil
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.network.Release(entry.ID, entry.IP)
	return nil
}

// RemovePodSandbox removes the sandbox and its containers; an unknown ID is no error.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	entry, err := r.sandbox(id)
	if status.Code(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	entry.op.Lock()
	defer entry.op.Unlock()
	if err := r.stopSandbox(ctx, entry); err != nil {
		return err
	}
	for _, c := range r.members(entry.ID) {
		if err := r.RemoveContainer(ctx, c.ID); err != nil {
			return err
		}
	}
	if err := r.store.removeSandbox(entry.ID); err != nil {
		return err
	}
	event := r.sandboxEvent(entry.ID, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	r.forgetSandbox(entry)
	r.events.send(event)
	return nil
}

func (r *Runtime) forgetSandbox(entry *sandboxEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sandboxes, entry.ID)
	r.network.Release(entry.ID, entry.IP)
}

// members lists the containers of a sandbox.
func (r *Runtime) members(id string) []*containerEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*containerEntry
	for _, c := range r.containers {
		if c.SandboxID == id {
			list = append(list, c)
		}
	}
	return list
}

func (r *Runtime) sandbox(id string) (*sandboxEntry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry, err := findByID(r.sandboxes, id)
	if err != nil {
		return nil, status.Errorf(codes.NotFound, "pod sandbox %q: %v", id, err)
	}
	return entry, nil
}

// findByID finds by the ID or its only entry with that beginning, as CRI clients may shorten IDs.
func findByID[T any](all map[string]*T, id string) (*T, error) {
	if entry := all[id]; entry != nil {
		return entry, nil
	}
	var found *T
	for full, entry := range all {
		if id == "" || len(full) < len(id) || full[:len(id)] != id {
			continue
		}
		if found != nil {
			return nil, errors.New("more than one ID begins so")
		}
		found = entry
	}
	if found == nil {
		return nil, errors.New("not found")
	}
	return found, nil
}

// PodSandboxStatus describes one sandbox.
func (r *Runtime) PodSandboxStatus(ctx context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	if err := r.waitReady(ctx); err != nil {
		return nil, err
	}
	entry, err := r.sandbox(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &runtimeapi.PodSandboxStatusResponse{Status: entry.status(), Timestamp: time.Now().UnixNano()}
	for _, c := range r.containers {
		if c.SandboxID == entry.ID {
			response.ContainersStatuses = append(response.ContainersStatuses, c.status())
		}
	}
	return response, nil
}

// ListPodSandbox lists the sandboxes that filter selects, newest first.
func (r *Runtime) ListPodSandbox(ctx context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	if err := r.waitReady(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*runtimeapi.PodSandbox
	for _, s := range r.sandboxes {
		item := &runtimeapi.PodSandbox{
			Id: s.ID, Metadata: s.config.GetMetadata(), State: s.criState(), CreatedAt: s.CreatedAt.UnixNano(),
			Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(), RuntimeHandler: s.Handler,
		}
		if matches(filter.GetId(), s.ID) && selects(filter.GetLabelSelector(), item.Labels) &&
			(filter.GetState() == nil || filter.GetState().GetState() == item.State) {
			list = append(list, item)
		}
	}
	slices.SortFunc(list, func(a, b *runtimeapi.PodSandbox) int { return int(b.CreatedAt - a.CreatedAt) })
	return list, nil
}

func (s *sandboxEntry) criState() runtimeapi.PodSandboxState {
	if s.State == sandboxReady {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

// status is the sandbox in CRI's form; with Runtime.mu held.
func (s *sandboxEntry) status() *runtimeapi.PodSandboxStatus {
	network := &runtimeapi.PodSandboxNetworkStatus{}
	if s.IP.IsValid() && s.State == sandboxReady {
		network.Ip = s.IP.String()
		if s.IP6.IsValid() {
			network.AdditionalIps = []*runtimeapi.PodIP{{Ip: s.IP6.String()}}
		}
	}
	return &runtimeapi.PodSandboxStatus{
		Id: s.ID, Metadata: s.config.GetMetadata(), State: s.criState(), CreatedAt: s.CreatedAt.UnixNano(), Network: network,
		Linux:  &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: namespaceMode(s.config)}},
		Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(), RuntimeHandler: s.Handler,
	}
}

func namespaceMode(config *runtimeapi.PodSandboxConfig) *runtimeapi.NamespaceOption {
	return config.GetLinux().GetSecurityContext().GetNamespaceOptions()
}

func hostNetwork(config *runtimeapi.PodSandboxConfig) bool {
	return namespaceMode(config).GetNetwork() == runtimeapi.NamespaceMode_NODE
}

func podName(config *runtimeapi.PodSandboxConfig) string {
	return config.GetMetadata().GetNamespace() + "/" + config.GetMetadata().GetName()
}

func matches(wanted, id string) bool { return wanted == "" || wanted == id }

func selects(selector, labels map[string]string) bool {
	for key := range maps.Keys(selector) {
		if value, ok := labels[key]; !ok || value != selector[key] {
			return false
		}
	}
	return true
}

func newID() string {
	var raw [32]byte
	rand.Read(raw[:]) // never fails (crypto/rand)
	return hex.EncodeToString(raw[:])
}
