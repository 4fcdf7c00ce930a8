package holder

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
)

// Holder is the state of the holder process.
type Holder struct {
	self process.ID

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

// container is one container; its status is guarded by Holder.mu.
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

func newHolder() (*Holder, error) {
	self, err := process.Identify(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("identify the holder: %w", err)
	}
	return &Holder{self: self, changed: make(chan struct{}), sandboxes: map[string]*heldSandbox{}, containers: map[string]*container{}}, nil
}

// touch tells those who wait that a container changed; with h.mu held.
func (h *Holder) touch() {
	h.seq++
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *Holder) state() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := State{Holder: h.self, Seq: h.seq}
	for id, held := range h.sandboxes {
		s.Sandboxes = append(s.Sandboxes, Sandbox{ID: id, Namespaces: held.paths()})
	}
	for _, c := range h.containers {
		s.Containers = append(s.Containers, c.status)
	}
	return s
}

// stateOf is the part of it that concerns one sandbox or container, without Seq: whoever has seen a part has not seen all.
func (h *Holder) stateOf(id string) State {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := State{Holder: h.self}
	if held := h.sandboxes[id]; held != nil {
		s.Sandboxes = []Sandbox{{ID: id, Namespaces: held.paths()}}
	}
	for _, c := range h.containers {
		if c.status.ID == id || c.status.SandboxID == id {
			s.Containers = append(s.Containers, c.status)
		}
	}
	return s
}

// stateAfter waits until the state is newer than after, or for half a minute.
func (h *Holder) stateAfter(ctx context.Context, after uint64) State {
	limit := time.After(30 * time.Second)
	for {
		h.mu.Lock()
		seq, changed := h.seq, h.changed
		h.mu.Unlock()
		if seq != after {
			return h.state()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return h.state()
		case <-limit:
			return h.state()
		}
	}
}

func (h *Holder) addSandbox(spec SandboxSpec) (Sandbox, error) {
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
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.sandboxes[spec.ID]; old != nil {
		old.release()
	}
	h.sandboxes[spec.ID] = held
	h.touch()
	return Sandbox{ID: spec.ID, Namespaces: held.paths()}, nil
}

func (s *heldSandbox) release() {
	if s.init.PID != 0 {
		killInit(s.init)
	}
	s.namespaces.Close()
}

// removeSandbox forgets a sandbox and kills its containers, which are remembered as exited.
func (h *Holder) removeSandbox(id string) {
	h.mu.Lock()
	var members []*container
	for _, c := range h.containers {
		if c.spec.SandboxID == id {
			members = append(members, c)
		}
	}
	h.mu.Unlock()
	for _, c := range members {
		c.runner.kill()
		<-c.done
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if held := h.sandboxes[id]; held != nil {
		held.release()
		delete(h.sandboxes, id)
		h.touch()
	}
}

func (h *Holder) namespaces(sandboxID string) (process.Namespaces, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.sandboxes[sandboxID]
	if held == nil {
		return process.Namespaces{}, fmt.Errorf("sandbox %s is not held", sandbox.Short(sandboxID))
	}
	return held.paths(), nil
}

// forkInit makes an init in the given namespaces, after prepare (which may be nil) ran on its thread.
func forkInit(in process.Namespaces, o process.InitOptions, prepare func() error) (process.ID, error) {
	var id process.ID
	err := process.OnThread(func() error {
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
