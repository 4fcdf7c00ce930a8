package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/podnet"
	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
	"svcplane/node/runtime/shim"
)

// Cleanup removes every trace of the runtime of dataDir from the kernel: the shim and all containers'
// processes, namespaces, links, routes, netfilter rules; net.ipv4.ip_forward gets its old value. It has to
// run in the network namespace the server ran in, works without a running server, and may be repeated. The
// records of sandboxes and containers go, the images stay.
func Cleanup(ctx context.Context, dataDir string) error {
	s := store{dir: dataDir}
	errs := []error{shim.End(ctx, dataDir), s.cleanContainers(ctx), s.cleanSandboxes(), podnet.Cleanup(dataDir), s.cleanCgroups()}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up the container runtime in %s: %w", dataDir, err)
	}
	return nil
}

func (s store) cleanContainers(ctx context.Context) error {
	ids, err := s.ids("containers")
	errs := []error{err}
	var processes []process.ID
	for _, id := range ids {
		if entry, err := s.loadContainer(id); err == nil {
			processes = append(processes, entry.Status.Process, entry.Status.Init)
		}
	}
	for _, id := range processes {
		if err := id.Signal(unix.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
			errs = append(errs, err)
		}
	}
	for _, id := range processes {
		errs = append(errs, waitEnd(ctx, id))
	}
	for _, id := range ids {
		errs = append(errs, s.removeContainer(id))
	}
	return errors.Join(errs...)
}

// waitEnd waits for the end of a process that was killed.
func waitEnd(ctx context.Context, id process.ID) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := id.Wait(ctx); err != nil {
		return fmt.Errorf("wait for the end of process %d: %w", id.PID, err)
	}
	return nil
}

func (s store) cleanSandboxes() error {
	ids, err := s.ids("sandboxes")
	errs := []error{err}
	for _, id := range ids {
		errs = append(errs, sandbox.Network{}.Detach(id), sandbox.Unpublish(sandbox.NetnsName(id)), s.removeSandbox(id))
	}
	return errors.Join(errs...)
}

// cleanCgroups removes where the pods were limited.
func (s store) cleanCgroups() error {
	tops, err := s.loadTops()
	if err != nil {
		return err
	}
	return cgroup.Cleanup(s.dir, tops...)
}
