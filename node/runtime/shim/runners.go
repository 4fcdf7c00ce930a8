package shim

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/echo"
	"svcplane/node/runtime/process"
)

// echoRunner is a container of the builtin image: a server in this process, its sockets in the pod.
type echoRunner struct {
	container  *container
	namespaces process.Namespaces
	server     *echo.Server
	ctx        context.Context
	cancel     context.CancelFunc
	grace      atomic.Int64 // nanoseconds
}

func newEchoRunner(c *container, in process.Namespaces) *echoRunner {
	r := &echoRunner{container: c, namespaces: in}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

func (r *echoRunner) start(ctx context.Context, _ *ContainerStatus) error {
	e := r.container.spec.Echo
	r.server = echo.New(echo.Config{Pod: e.Pod, Namespace: e.Namespace, Node: e.Node, IP: e.IP, Ports: e.Ports, Log: r.container.log})
	return process.InNet(r.namespaces.Net, func() error { return r.server.Listen(ctx) })
}

func (r *echoRunner) wait() (int, string) {
	return r.server.Run(r.ctx, func() time.Duration { return time.Duration(r.grace.Load()) }), ""
}

func (r *echoRunner) stop(grace time.Duration) {
	r.grace.Store(int64(grace))
	r.cancel()
}

func (r *echoRunner) kill() {
	r.cancel()
	if r.server != nil {
		r.server.Kill()
	}
}

func (r *echoRunner) release(status ContainerStatus) {
	r.cancel()
	killInit(status.Init)
}

// processRunner is a container that runs a command, as the first process of its PID namespace or beside an init that keeps its
// namespaces.
type processRunner struct {
	shim       *shim
	container  *container
	namespaces process.Namespaces
	init       process.ID // zero: there is none
	child      atomic.Pointer[process.Child]
	outputs    sync.WaitGroup
	readers    []*os.File
	stdin      *os.File // what attached clients write to; nil if the process has none
	clients    audience
}

func (r *processRunner) start(_ context.Context, status *ContainerStatus) error {
	root, in, command := r.container.spec.Root, r.namespaces, r.container.spec.Process.Command
	var err error
	if command.Cgroup, err = r.shim.openPlace(root.Cgroup); err != nil {
		return err
	}
	defer command.Cgroup.Close()
	if command.Users, err = openUsers(in, root); err != nil {
		return err
	}
	defer command.Users.Close()
	if command.Users != nil {
		root.UserNS = command.Users.File
	}
	begin := command.Start
	prepare := func() error { return nil }
	if r.first() {
		in.Mnt, prepare = root.MountNS, root.Build
		begin = func(stdio [3]uintptr, tty bool) (int, error) { return command.StartFirst(stdio, tty, root.protect) }
	} else {
		if r.init, err = r.shim.makeInit(root, in); err != nil {
			return err
		}
		in, status.Init = process.NamespacesOf(r.init.PID), r.init
	}
	var streams *streams
	var pid int
	err = process.OnThread(func() error {
		// Before the thread enters: a volume may cover the container's /dev.
		nothing, err := os.Open(os.DevNull)
		if err != nil {
			return fmt.Errorf("open the container's standard input: %w", err)
		}
		if err = in.Enter(); err == nil {
			err = prepare()
		}
		if err != nil {
			nothing.Close()
			return err
		}
		if streams, err = openStreams(r.container.spec.Process, nothing); err != nil {
			return err
		}
		defer streams.closeTheirs()
		user, err := r.container.spec.Process.Command.User.Identify()
		if err != nil {
			return err
		}
		status.User = &user
		pid, err = begin(streams.descriptors(), r.container.spec.Process.TTY)
		return err
	})
	if err != nil {
		if streams != nil {
			streams.closeOurs()
		}
		return err
	}
	return r.attach(pid, streams, status)
}

// first says whether the command is the first process of its PID namespace, as under other runtimes: it is signal 1's target, its
// output is /proc/1/fd/1. Programs of the host are not, which know nothing of what that asks of them.
func (r *processRunner) first() bool {
	root := r.container.spec.Root
	return root.Image != nil && !root.HostPID && root.PIDNS == "" && r.namespaces.PID == ""
}

// attach follows a process that has begun.
func (r *processRunner) attach(pid int, streams *streams, status *ContainerStatus) (err error) {
	child := process.NewChild(pid)
	child.EndGroup = true
	r.child.Store(child)
	r.stdin = streams.stdin
	for name, from := range streams.ours {
		r.readers = append(r.readers, from)
		seen := io.TeeReader(from, r.clients.frames(frameKind(name)))
		r.outputs.Go(func() { r.container.log.copy(name, seen) })
	}
	if status.Process, err = process.Identify(pid); err == nil && r.init.PID == 0 { // a zombie at worst: it is not waited for yet
		status.Init = status.Process
	}
	return err
}

func (r *processRunner) wait() (int, string) {
	code, by, err := r.child.Load().Wait()
	switch {
	case err != nil:
		return 255, err.Error()
	case by != 0:
		return code, "ended by signal: " + by.String()
	}
	return code, ""
}

func (r *processRunner) stop(time.Duration) { r.signal(unix.SIGTERM) }

func (r *processRunner) kill() { r.signal(unix.SIGKILL) }

// signal reaches the process, and with SIGKILL its group: what else is in its PID namespace ends with the
// init.
func (r *processRunner) signal(sig unix.Signal) {
	if child := r.child.Load(); child != nil {
		child.Signal(sig)
	}
}

func (r *processRunner) release(ContainerStatus) {
	killInit(r.init)
	// With the namespace dead nobody can hold the other ends; a process that left a host PID container's
	// group could, so reading ends after a while.
	limit := time.AfterFunc(time.Second, func() {
		for _, f := range r.readers {
			f.Close()
		}
	})
	r.outputs.Wait()
	limit.Stop()
	for _, f := range r.readers {
		f.Close()
	}
	if r.stdin != nil {
		r.stdin.Close() // of a terminal it is the reader, closed twice
	}
	r.clients.end()
}

func frameKind(stream string) byte {
	if stream == "stderr" {
		return frameStderr
	}
	return frameStdout
}

// streams connect a process: theirs become its 0, 1, 2; ours are read into the log.
type streams struct {
	theirs [3]*os.File
	ours   map[string]*os.File
	stdin  *os.File // to write to, if the container wants an input
}

// openStreams opens what spec asks for; nothing, an empty input, is closed or becomes one of them.
func openStreams(spec *Process, nothing *os.File) (*streams, error) {
	s := &streams{ours: map[string]*os.File{}}
	if spec.TTY {
		nothing.Close()
		master, slave, err := process.OpenTTY()
		if err != nil {
			return nil, err
		}
		s.theirs = [3]*os.File{slave, slave, slave}
		s.ours["stdout"] = master
		if spec.Stdin {
			s.stdin = master
		}
		return s, nil
	}
	if err := s.openStdin(spec.Stdin, nothing); err != nil {
		return nil, fmt.Errorf("open the container's standard input: %w", err)
	}
	for i, name := range []string{"stdout", "stderr"} {
		ours, theirs, err := os.Pipe()
		if err != nil {
			s.closeTheirs()
			s.closeOurs()
			return nil, fmt.Errorf("make a pipe for the container's %s: %w", name, err)
		}
		s.ours[name], s.theirs[i+1] = ours, theirs
	}
	return s, nil
}

func (s *streams) openStdin(wanted bool, nothing *os.File) (err error) {
	if wanted {
		nothing.Close()
		s.theirs[0], s.stdin, err = os.Pipe()
		return err
	}
	s.theirs[0] = nothing
	return nil
}

func (s *streams) descriptors() [3]uintptr {
	return [3]uintptr{s.theirs[0].Fd(), s.theirs[1].Fd(), s.theirs[2].Fd()}
}

func (s *streams) closeTheirs() {
	for _, f := range s.theirs {
		if f != nil {
			f.Close() // a terminal is there three times; closing again is refused and harmless
		}
	}
}

func (s *streams) closeOurs() {
	for _, f := range s.ours {
		f.Close()
	}
	if s.stdin != nil {
		s.stdin.Close()
	}
}
