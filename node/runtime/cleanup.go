package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/node/holder"
	"svcplane/node/process"
	"svcplane/node/sandbox"
)

// Cleanup removes every trace of the runtime of dataDir from the kernel: the holder and all containers'
// processes, namespaces, links, routes, netfilter rules; net.ipv4.ip_forward gets its old value. It has to
// run in the network namespace the server ran in, works without a running server, and may be repeated. The
// records of sandboxes and containers go, the images stay.
func Cleanup(ctx context.Context, dataDir string) error {
	s := store{dir: dataDir}
	errs := []error{holder.Kill(ctx, dataDir), s.cleanContainers(ctx), s.cleanSandboxes(), sandbox.RemoveRules()}
	// Links of sandboxes whose records are lost go too.
	errs = append(errs, sandbox.Network{}.Prune(func(string) bool { return false }), s.restoreNode())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up the container runtime in %s: %w", dataDir, err)
	}
	return nil
}

func (s store) cleanContainers(ctx context.Context) error {
	ids, err := s.ids("containers")
	errs := []error{err}
	for _, id := range ids {
		entry, err := s.loadContainer(id)
		if err == nil {
			errs = append(errs, endProcess(ctx, entry.Status.Process), endProcess(ctx, entry.Status.Init))
		}
		errs = append(errs, s.removeContainer(id))
	}
	return errors.Join(errs...)
}

// endProcess kills one process and waits for its end.
func endProcess(ctx context.Context, id process.ID) error {
	if err := id.Signal(unix.SIGKILL); errors.Is(err, process.ErrGone) {
		return nil
	} else if err != nil {
		return err
	}
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

func (s store) restoreNode() error {
	node, err := s.loadNode()
	if err != nil || node.OldForwarding == "" {
		return err
	}
	if err := sandbox.RestoreForwarding(node.OldForwarding); err != nil {
		return err
	}
	node.OldForwarding = ""
	return s.saveNode(node)
}
