package runtime

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/klog/v2"

	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
	"svcplane/node/runtime/shim"
)

// adopt takes over what an earlier run left: sandboxes and containers that live are kept, those that were
// half made or whose records are broken are removed, those that died are recorded as such.
func (r *Runtime) adopt(ctx context.Context) error {
	held, err := r.findShim(ctx)
	if err != nil {
		return err
	}
	if err := r.loadAll(); err != nil {
		return err
	}
	for _, entry := range r.sandboxes {
		if entry.State != sandboxStopped && entry.IP.IsValid() {
			if err := r.network.Adopt(entry.netPod()); err != nil {
				return fmt.Errorf("adopt the sandbox of pod %s: %w", podName(entry.config), err)
			}
		}
	}
	for _, entry := range r.sandboxes {
		if err := r.adoptSandbox(ctx, entry, held); err != nil {
			return fmt.Errorf("adopt the sandbox of pod %s: %w", podName(entry.config), err)
		}
	}
	if err := r.dropUnknown(ctx, held); err != nil {
		return err
	}
	if err := r.mergeState(held); err != nil {
		return err
	}
	r.adoptContainers(held)
	return nil
}

// findShim gives the state of a shim that lives; the zero State if none does.
func (r *Runtime) findShim(ctx context.Context) (shim.State, error) {
	if _, err := shim.Find(r.cfg.DataDir); err != nil {
		return shim.State{}, nil
	}
	state, err := r.shim.State(ctx)
	if err != nil {
		return shim.State{}, err
	}
	r.setShim(state)
	return state, nil
}

// loadAll reads all records. What has none that can be read is removed by its ID.
func (r *Runtime) loadAll() error {
	sandboxes, err := r.store.ids("sandboxes")
	if err != nil {
		return err
	}
	for _, id := range sandboxes {
		entry, err := r.store.loadSandbox(id)
		if err != nil {
			klog.ErrorS(err, "Removing a sandbox whose record can't be read", "sandbox", id)
			if err := errors.Join(r.network.Detach(id), r.store.removeSandbox(id)); err != nil {
				return err
			}
			continue
		}
		r.sandboxes[id] = entry
	}
	containers, err := r.store.ids("containers")
	if err != nil {
		return err
	}
	for _, id := range containers {
		entry, err := r.store.loadContainer(id)
		if err == nil && r.sandboxes[entry.SandboxID] == nil {
			err = errors.New("its sandbox is gone")
		}
		if err != nil {
			klog.ErrorS(err, "Removing a container that can't be adopted", "container", id)
			if entry != nil {
				killAll(entry.Status)
			}
			if err := r.store.removeContainer(id); err != nil {
				return err
			}
			continue
		}
		r.containers[id] = entry
	}
	return nil
}

// adoptSandbox opens the namespaces of a sandbox that lives and takes down one that does not.
func (r *Runtime) adoptSandbox(ctx context.Context, entry *sandboxEntry, held shim.State) error {
	if entry.State == sandboxStopped {
		return nil
	}
	if entry.State == sandboxCreating {
		if err := r.teardown(ctx, entry); err != nil {
			return err
		}
		delete(r.sandboxes, entry.ID)
		return r.store.removeSandbox(entry.ID)
	}
	namespaces := r.liveNamespaces(entry, held)
	if namespaces == nil {
		klog.InfoS("A pod's namespaces are gone, most likely after a restart of the machine", "pod", podName(entry.config))
		if err := r.teardown(ctx, entry); err != nil {
			return err
		}
		return r.setSandboxState(entry, sandboxStopped)
	}
	entry.namespaces = namespaces
	if hostNetwork(entry.config) {
		return nil
	}
	// This run may have another mount namespace than the one before (ip netns exec makes one), and the node another
	// address, with which routes went.
	if err := r.network.Reroute(entry.ID); err != nil {
		klog.ErrorS(err, "A pod's routes are not as they should be; they are made again when the node's address changes", "pod", podName(entry.config))
	}
	return namespaces.Publish(sandbox.NetnsName(entry.ID))
}

// liveNamespaces opens the namespaces that the shim still has, or nil.
func (r *Runtime) liveNamespaces(entry *sandboxEntry, held shim.State) *sandbox.Namespaces {
	for _, s := range held.Sandboxes {
		if s.ID != entry.ID {
			continue
		}
		namespaces, err := sandbox.OpenNamespaces(process.Namespaces{Net: s.Namespaces.Net, UTS: s.Namespaces.UTS, IPC: s.Namespaces.IPC, User: s.Namespaces.User})
		if err != nil {
			klog.ErrorS(err, "Opening the namespaces of a pod", "pod", podName(entry.config))
			return nil
		}
		return namespaces
	}
	return nil
}

// dropUnknown makes the shim let go of what there are no records of.
func (r *Runtime) dropUnknown(ctx context.Context, held shim.State) error {
	var errs []error
	for _, c := range held.Containers {
		if r.containers[c.ID] == nil {
			errs = append(errs, r.shim.RemoveContainer(ctx, c.ID))
		}
	}
	for _, s := range held.Sandboxes {
		if entry := r.sandboxes[s.ID]; entry == nil || entry.State == sandboxStopped {
			errs = append(errs, r.shim.RemoveSandbox(ctx, s.ID))
		}
	}
	return errors.Join(errs...)
}

// adoptContainers ends those that are recorded as running and that no shim has.
func (r *Runtime) adoptContainers(held shim.State) {
	has := map[string]bool{}
	for _, c := range held.Containers {
		has[c.ID] = true
	}
	for id, c := range r.containers {
		if c.State == containerRunning && !has[id] {
			r.lose(c)
		}
	}
}
