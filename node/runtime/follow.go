package runtime

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
	"svcplane/node/runtime/shim"
)

// follow takes over what happens in the shim, until ctx ends. When the shim died, its containers are
// reported as exited and a new one is started.
func (r *Runtime) follow(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-r.holding:
	}
	for ctx.Err() == nil {
		err := r.followOnce(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		klog.ErrorS(err, "Following the shim of containers")
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (r *Runtime) followOnce(ctx context.Context) error {
	r.mu.Lock()
	seq := r.seq
	r.mu.Unlock()
	state, err := r.shim.Wait(ctx, seq)
	if err == nil {
		return r.mergeState(state)
	}
	if ctx.Err() != nil || r.shimAlive() {
		return err
	}
	return r.ensureShim(ctx)
}

// merge takes over what the shim has of one sandbox or container.
func (r *Runtime) merge(ctx context.Context, id string) error {
	state, err := r.shim.StateOf(ctx, id)
	if err != nil {
		return err
	}
	return r.mergeState(state)
}

func (r *Runtime) mergeState(state shim.State) error {
	r.mu.Lock()
	if state.Shim == r.shimID && state.Seq > r.seq {
		r.seq = state.Seq
	}
	var known []*containerEntry
	var now []shim.ContainerStatus
	for _, c := range state.Containers {
		if entry := r.containers[c.ID]; entry != nil {
			known, now = append(known, entry), append(now, c)
		}
	}
	r.mu.Unlock()
	var errs []error
	for i, entry := range known {
		exited, err := r.apply(entry, r.explain(entry, now[i]))
		if exited {
			r.dropGroup(entry)
			r.notify(entry, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *Runtime) shimAlive() bool {
	r.mu.Lock()
	id := r.shimID
	r.mu.Unlock()
	return id.Alive()
}

// ensureShim makes sure that a shim runs that has all sandboxes. After the death of one, the containers
// it had are ended and recorded as exited first.
func (r *Runtime) ensureShim(ctx context.Context) error {
	r.revive.Lock()
	defer r.revive.Unlock()
	if r.shimAlive() {
		return nil
	}
	r.mu.Lock()
	had := r.shimID.PID != 0
	r.mu.Unlock()
	if had {
		klog.ErrorS(errNoShim, "Starting another one; its containers are reported as exited")
		r.loseContainers()
	}
	if err := shim.Start(ctx, r.cfg.Executable, r.cfg.DataDir); err != nil {
		return err
	}
	state, err := r.shim.State(ctx)
	if err != nil {
		return err
	}
	r.setShim(state)
	if had {
		return r.holdAgain(ctx)
	}
	return nil
}

// setShim enters the shim to follow.
func (r *Runtime) setShim(state shim.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shimID.PID == 0 {
		close(r.holding)
	}
	r.shimID, r.seq = state.Shim, state.Seq
}

// holdAgain hands the sandboxes, whose namespaces this process has open, to a new shim.
func (r *Runtime) holdAgain(ctx context.Context) error {
	r.mu.Lock()
	var specs []shim.SandboxSpec
	for _, s := range r.sandboxes {
		if s.State == sandboxReady && s.namespaces != nil {
			specs = append(specs, s.shimSpec())
		}
	}
	r.mu.Unlock()
	var errs []error
	for _, spec := range specs {
		_, err := r.shim.AddSandbox(ctx, spec)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *sandboxEntry) shimSpec() shim.SandboxSpec {
	return shim.SandboxSpec{
		ID: s.ID, Namespaces: s.namespaces.Paths(),
		SharedPID: namespaceMode(s.config).GetPid() == runtimeapi.NamespaceMode_POD,
	}
}

// loseContainers ends what a dead shim left of its containers and records them as exited.
func (r *Runtime) loseContainers() {
	r.mu.Lock()
	var lost []*containerEntry
	for _, c := range r.containers {
		if c.State == containerRunning {
			lost = append(lost, c)
		}
	}
	r.mu.Unlock()
	for _, c := range lost {
		r.lose(c)
	}
}

func (r *Runtime) lose(c *containerEntry) {
	r.mu.Lock()
	end := c.Status
	r.mu.Unlock()
	killAll(end)
	end.State, end.FinishedAt, end.ExitCode = shim.Exited, time.Now(), 128+int(unix.SIGKILL)
	end.Reason, end.Message = "Error", "the process that held the container died"
	if _, err := r.apply(c, end); err != nil {
		klog.ErrorS(err, "Recording the end of a container", "container", sandbox.Short(c.ID))
	}
	r.dropGroup(c)
	r.notify(c, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}

// killAll ends the processes of a container whose shim is dead.
func killAll(s shim.ContainerStatus) {
	for _, id := range []process.ID{s.Process, s.Init} {
		// Gone is what it should be; anything else shows as a process in the list.
		if err := id.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
			klog.ErrorS(err, "Ending a container's process", "container", sandbox.Short(s.ID))
		}
	}
}
