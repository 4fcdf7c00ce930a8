package shim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
)

// startContainer runs a container and returns when it does, or can't.
func (s *shim) startContainer(ctx context.Context, spec ContainerSpec) (ContainerStatus, error) {
	c := &container{spec: spec, done: make(chan struct{})}
	c.status = ContainerStatus{ID: spec.ID, SandboxID: spec.SandboxID}
	if err := s.reserve(c); err != nil {
		return ContainerStatus{}, err
	}
	status, err := s.launch(ctx, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.containers, spec.ID)
		close(c.done)
		return ContainerStatus{}, err
	}
	c.status = status
	s.touch()
	go s.watch(c)
	return status, nil
}

// reserve enters the container, so that nobody starts it twice.
func (s *shim) reserve(c *container) error {
	namespaces, err := s.namespaces(c.spec.SandboxID)
	if err != nil {
		return fmt.Errorf("start container %s: %w", sandbox.Short(c.spec.ID), err)
	}
	switch {
	case c.spec.Echo != nil:
		c.runner = newEchoRunner(c, namespaces)
	case c.spec.Process != nil:
		c.runner = &processRunner{shim: s, container: c, namespaces: namespaces}
	default:
		return fmt.Errorf("start container %s: nothing to run", sandbox.Short(c.spec.ID))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.containers[c.spec.ID] != nil {
		return fmt.Errorf("start container %s: it was started before", sandbox.Short(c.spec.ID))
	}
	s.containers[c.spec.ID] = c
	return nil
}

func (s *shim) launch(ctx context.Context, c *container) (ContainerStatus, error) {
	log, err := openLog(c.spec.LogPath)
	if err != nil {
		return ContainerStatus{}, err
	}
	c.log = log
	status := c.status
	status.State, status.StartedAt, status.Cgroup = Running, time.Now(), c.spec.Root.Cgroup
	if err := c.runner.start(ctx, &status); err != nil {
		c.runner.release(status)
		log.close()
		return ContainerStatus{}, err
	}
	return status, nil
}

// watch waits for the container's end and records it.
func (s *shim) watch(c *container) {
	code, message := c.runner.wait()
	c.env.Lock()
	defer c.env.Unlock()
	s.mu.Lock()
	status := c.status
	s.mu.Unlock()
	c.runner.release(status)
	c.log.close()
	reason := s.endReason(c.spec.Root.Cgroup, code)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.status.State, c.status.FinishedAt, c.status.ExitCode, c.status.Message = Exited, time.Now(), code, message
	c.status.Reason = reason
	close(c.done)
	s.touch()
}

// endReason asks the kernel whether it has ended a process of a container that failed, for want of memory.
func (s *shim) endReason(group string, code int) string {
	if code == 0 {
		return "Completed"
	}
	if group != "" {
		if system, err := s.groups(); err == nil {
			if kills, err := system.OOMKills(group); err == nil && kills > 0 {
				return "OOMKilled"
			}
		}
	}
	return "Error"
}

func (s *shim) find(id string) *container {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.containers[id]
}

// stopContainer returns when the container has ended.
func (s *shim) stopContainer(ctx context.Context, id string, grace time.Duration) error {
	c := s.find(id)
	if c == nil {
		return nil
	}
	if grace > 0 {
		c.runner.stop(grace)
		select {
		case <-c.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("stop container %s: %w", sandbox.Short(id), ctx.Err())
		case <-time.After(grace):
		}
	}
	c.runner.kill()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kill container %s: %w", sandbox.Short(id), ctx.Err())
	}
}

func (s *shim) removeContainer(id string) {
	c := s.find(id)
	if c == nil {
		return
	}
	c.runner.kill()
	<-c.done
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, id)
	s.touch()
}

func (s *shim) reopenLog(id string) error {
	c := s.find(id)
	if c == nil {
		return fmt.Errorf("reopen the log of container %s: it is not held", sandbox.Short(id))
	}
	return c.log.reopen()
}

// env gives the process whose namespaces an exec enters. An echo container has none until the first exec, and gets
// another one when what it may see changed since: whatever still runs in the old one ends.
func (s *shim) env(id string, root RootSpec) (process.ID, error) {
	c := s.find(id)
	if c == nil {
		return process.ID{}, fmt.Errorf("exec in container %s: it is not held", sandbox.Short(id))
	}
	c.env.Lock()
	defer c.env.Unlock()
	s.mu.Lock()
	status := c.status
	s.mu.Unlock()
	if status.State != Running {
		return process.ID{}, fmt.Errorf("exec in container %s: it does not run", sandbox.Short(id))
	}
	if status.Init.PID != 0 && (c.spec.Echo == nil || sameView(c.spec.Root, root)) {
		return status.Init, nil
	}
	namespaces, err := s.namespaces(c.spec.SandboxID)
	if err != nil {
		return process.ID{}, err
	}
	init, err := s.makeInit(root, namespaces)
	if err != nil {
		return process.ID{}, fmt.Errorf("exec in container %s: %w", sandbox.Short(id), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	killInit(status.Init)
	c.spec.Root, c.status.Init = root, init
	s.touch()
	return init, nil
}

// sameView says whether two roots are of one kind: the host's own or a view of it.
func sameView(a, b RootSpec) bool { return (a.View == nil) == (b.View == nil) }

// makeInit makes the container's file system and the process that keeps it.
func (s *shim) makeInit(root RootSpec, in process.Namespaces) (process.ID, error) {
	in.Mnt = root.MountNS
	if root.PIDNS != "" {
		in.PID = root.PIDNS
	}
	place, err := s.openPlace(root.Cgroup)
	if err != nil {
		return process.ID{}, err
	}
	defer place.Close()
	users, err := openUsers(in, root)
	if err != nil {
		return process.ID{}, err
	}
	defer users.Close()
	if users != nil {
		root.UserNS = users.File
	}
	o := process.InitOptions{NewPID: in.PID == "" && !root.HostPID, MountProc: !root.HostPID, Cgroup: place}
	init, err := forkInit(in, o, root.Build)
	if err != nil {
		return init, err
	}
	if err := root.protect(init.PID); err != nil {
		killInit(init)
		return process.ID{}, err
	}
	return init, nil
}

// openUsers opens the user namespace of a pod that has one.
func openUsers(in process.Namespaces, root RootSpec) (*process.Users, error) {
	if root.Users == nil {
		return nil, nil
	}
	users, err := process.OpenUsers(in.User, *root.Users)
	if err == nil && users == nil {
		err = errors.New("the pod's user namespace is not held here: delete the pod")
	}
	return users, err
}

// protect covers files of the kernel in the mount namespace of pid, which has mounted its /proc.
func (root RootSpec) protect(pid int) error {
	if len(root.Protect.Masked)+len(root.Protect.ReadOnly) == 0 {
		return nil
	}
	return process.OnThread(func() error {
		return root.Protect.Apply(process.Namespaces{Mnt: process.NamespacesOf(pid).Mnt}.Enter)
	})
}

// openPlace opens the cgroup of a container, if it has one.
func (s *shim) openPlace(group string) (*cgroup.Place, error) {
	if group == "" {
		return nil, nil
	}
	system, err := s.groups()
	if err != nil {
		return nil, err
	}
	return system.Place(group)
}
