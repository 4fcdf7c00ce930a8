package shim

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
)

// shim is the state of the process.
type shim struct {
	self   process.ID
	groups func() (cgroup.System, error) // where cgroups are; looked for once

	mu         sync.Mutex
	seq        uint64
	changed    chan struct{} // closed and replaced with every change
	sandboxes  map[string]*heldSandbox
	containers map[string]*container
}

type heldSandbox struct {
	namespaces *sandbox.Namespaces
	init       process.ID // keeps the PID namespace that the containers share; zero if they do not
}

// paths names the sandbox's namespaces.
func (s *heldSandbox) paths() process.Namespaces {
	paths := s.namespaces.Paths()
	if s.init.PID != 0 {
		paths.PID = process.NamespacesOf(s.init.PID).PID
	}
	return paths
}

// container is one container; its status is guarded by shim.mu.
type container struct {
	spec   ContainerSpec
	status ContainerStatus
	log    *logFile
	runner runner
	done   chan struct{} // closed when it has ended

	env sync.Mutex // held while the init of an echo container is made
}

// runner is what a container consists of: an echo server or a process.
type runner interface {
	// start begins; what the status says then must be true.
	start(ctx context.Context, status *ContainerStatus) error
	// wait returns how it ended. It is called once, after start.
	wait() (code int, message string)
	// stop asks for the end (SIGTERM), kill enforces it.
	stop(grace time.Duration)
	kill()
	// release gives back what start or env took.
	release(status ContainerStatus)
}

func newShim() (*shim, error) {
	self, err := process.Identify(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("identify the shim: %w", err)
	}
	return &shim{self: self, groups: sync.OnceValues(cgroup.Find), changed: make(chan struct{}), sandboxes: map[string]*heldSandbox{}, containers: map[string]*container{}}, nil
}

// touch tells those who wait that a container changed; with s.mu held.
func (s *shim) touch() {
	s.seq++
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *shim) state() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := State{Shim: s.self, Seq: s.seq}
	for id, held := range s.sandboxes {
		out.Sandboxes = append(out.Sandboxes, Sandbox{ID: id, Namespaces: held.paths()})
	}
	for _, c := range s.containers {
		out.Containers = append(out.Containers, c.status)
	}
	return out
}

// stateOf is the part of it that concerns one sandbox or container, without Seq: whoever has seen a part has not seen all.
func (s *shim) stateOf(id string) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := State{Shim: s.self}
	if held := s.sandboxes[id]; held != nil {
		out.Sandboxes = []Sandbox{{ID: id, Namespaces: held.paths()}}
	}
	for _, c := range s.containers {
		if c.status.ID == id || c.status.SandboxID == id {
			out.Containers = append(out.Containers, c.status)
		}
	}
	return out
}

// stateAfter waits until the state is newer than after, or for half a minute.
func (s *shim) stateAfter(ctx context.Context, after uint64) State {
	limit := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		seq, changed := s.seq, s.changed
		s.mu.Unlock()
		if seq != after {
			return s.state()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s.state()
		case <-limit:
			return s.state()
		}
	}
}

func (s *shim) addSandbox(spec SandboxSpec) (Sandbox, error) {
	namespaces, err := sandbox.OpenNamespaces(spec.Namespaces)
	if err != nil {
		return Sandbox{}, fmt.Errorf("keep the namespaces of sandbox %s: %w", sandbox.Short(spec.ID), err)
	}
	held := &heldSandbox{namespaces: namespaces}
	if spec.SharedPID {
		if held.init, err = forkInit(namespaces.Paths(), process.InitOptions{NewPID: true}, nil); err != nil {
			namespaces.Close()
			return Sandbox{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.sandboxes[spec.ID]; old != nil {
		old.release()
	}
	s.sandboxes[spec.ID] = held
	s.touch()
	return Sandbox{ID: spec.ID, Namespaces: held.paths()}, nil
}

func (s *heldSandbox) release() {
	if s.init.PID != 0 {
		killInit(s.init)
	}
	s.namespaces.Close()
}

// removeSandbox forgets a sandbox and kills its containers, which are remembered as exited.
func (s *shim) removeSandbox(id string) {
	s.mu.Lock()
	var members []*container
	for _, c := range s.containers {
		if c.spec.SandboxID == id {
			members = append(members, c)
		}
	}
	s.mu.Unlock()
	for _, c := range members {
		c.runner.kill()
		<-c.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.sandboxes[id]; held != nil {
		held.release()
		delete(s.sandboxes, id)
		s.touch()
	}
}

func (s *shim) namespaces(sandboxID string) (process.Namespaces, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.sandboxes[sandboxID]
	if held == nil {
		return process.Namespaces{}, fmt.Errorf("sandbox %s is not held", sandbox.Short(sandboxID))
	}
	return held.paths(), nil
}

// forkInit makes an init in the given namespaces, after prepare (which may be nil) ran on its thread.
func forkInit(in process.Namespaces, o process.InitOptions, prepare func() error) (process.ID, error) {
	var id process.ID
	var err error
	if o.Users, err = process.OpenUsers(in.User, process.IDs{}); err != nil {
		return id, err
	}
	defer o.Users.Close()
	if o.Users != nil && in.PID != "" {
		if o.PIDs, err = os.Open(in.PID); err != nil {
			return id, fmt.Errorf("open a PID namespace: %w", err)
		}
		defer o.PIDs.Close()
		in.PID = ""
	}
	err = process.OnThread(func() error {
		if err := in.Enter(); err != nil {
			return err
		}
		if prepare != nil {
			if err := prepare(); err != nil {
				return err
			}
		}
		pid, err := process.ForkInit(o)
		id.PID = pid
		return err
	})
	if err != nil {
		return process.ID{}, err
	}
	return process.Identify(id.PID)
}

// killInit ends an init of ours, and with it its PID namespace, and reaps it.
func killInit(id process.ID) {
	if id.PID == 0 {
		return
	}
	// It is a child that only we reap: its pid can't have been used again.
	_ = unix.Kill(id.PID, unix.SIGKILL)
	for {
		if _, err := unix.Wait4(id.PID, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
