package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
)

// maxSyncOutput is how much of each output ExecSync keeps, as containerd does.
const maxSyncOutput = 16 << 20

// ExecSync runs a command in a container and gives what it wrote. The error of a command that failed is an
// exec.CodeExitError, that of one that took longer than timeout (0: no limit) a status DeadlineExceeded.
func (r *Runtime) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (stdout, stderr []byte, err error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	out, errOut := &limitedBuffer{}, &limitedBuffer{}
	err = r.exec(ctx, execution{id: id, args: cmd, stdout: out, stderr: errOut})
	if errors.Is(err, context.DeadlineExceeded) {
		err = status.Errorf(codes.DeadlineExceeded, "command %q timed out after %s", strings.Join(cmd, " "), timeout)
	}
	return out.Bytes(), errOut.Bytes(), err
}

// limitedBuffer keeps the beginning and swallows the rest, so that the command does not block.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := maxSyncOutput - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// execution is one command to run in a container, connected to streams; those that are nil are not.
type execution struct {
	id             string
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	tty            bool
	resize         <-chan remotecommand.TerminalSize
}

// exec runs a command in the namespaces of a container and waits for it; it is killed when ctx ends.
func (r *Runtime) exec(ctx context.Context, e execution) error {
	entry, err := r.container(ctx, e.id)
	if err != nil {
		return err
	}
	pod, err := r.sandbox(entry.SandboxID)
	if err != nil {
		return err
	}
	if len(e.args) == 0 {
		return status.Error(codes.InvalidArgument, "exec: the command is empty")
	}
	r.mu.Lock()
	running := entry.State == containerRunning
	r.mu.Unlock()
	if !running {
		return status.Errorf(codes.FailedPrecondition, "exec in container %s of pod %s: it does not run", entry.config.GetMetadata().GetName(), podName(pod.config))
	}
	if err := r.mayEnter(pod, entry.Kind); err != nil {
		return err
	}
	command, err := r.command(pod, entry, e.args)
	if err != nil {
		return err
	}
	if e.tty {
		command.Env = append([]string{"TERM=xterm"}, command.Env...)
	}
	root, err := r.rootSpec(pod, entry)
	if err != nil {
		return err
	}
	if root.View != nil && !entry.config.GetLinux().GetSecurityContext().GetPrivileged() {
		command.NoNewPrivs = true
	}
	if entry.Kind == kindEcho {
		if err := r.makeGroup(pod, entry); err != nil {
			return fmt.Errorf("exec in container %s: %w", sandbox.Short(entry.ID), err)
		}
	}
	init, err := r.shim.Env(ctx, entry.ID, root)
	if err != nil {
		return err
	}
	if root.Cgroup != "" {
		if command.Cgroup, err = r.cfg.Cgroups.Place(root.Cgroup); err != nil {
			return fmt.Errorf("exec in container %s: %w", sandbox.Short(entry.ID), err)
		}
		defer command.Cgroup.Close()
	}
	pipes := &execPipes{}
	defer pipes.close()
	pid, err := e.start(init, command, pipes)
	if err != nil {
		return fmt.Errorf("exec in container %s: %w", sandbox.Short(entry.ID), err)
	}
	return e.wait(ctx, pid, pipes)
}

// execPipes are our ends of what the command is connected to.
type execPipes struct {
	stdin, stdout, stderr *os.File
	master                *os.File // of a terminal, instead of the three
}

func (p *execPipes) close() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr, p.master} {
		if f != nil {
			f.Close()
		}
	}
}

// start runs the command from a thread in the container's namespaces.
func (e execution) start(init process.ID, command process.Command, pipes *execPipes) (int, error) {
	var pid int
	var err error
	if command.Users, err = process.UsersOf(init.PID); err != nil {
		return 0, err
	}
	defer command.Users.Close()
	err = process.OnThread(func() error {
		if !init.Alive() {
			return process.ErrGone
		}
		// Before the thread enters: a volume may cover the container's /dev.
		nothing, err := os.Open(os.DevNull)
		if err != nil {
			return fmt.Errorf("open standard input: %w", err)
		}
		if err := process.NamespacesOf(init.PID).Enter(); err != nil {
			nothing.Close()
			return err
		}
		theirs, err := e.connect(pipes, nothing)
		defer closeFiles(theirs)
		if err != nil {
			return err
		}
		pid, err = command.Start([3]uintptr{theirs[0].Fd(), theirs[1].Fd(), theirs[2].Fd()}, e.tty)
		return err
	})
	return pid, err
}

// connect opens the command's descriptors 0, 1 and 2 and our ends of them; nothing, an empty input, is closed or
// becomes one of them.
func (e execution) connect(pipes *execPipes, nothing *os.File) (theirs [3]*os.File, err error) {
	if e.tty {
		nothing.Close()
		master, slave, err := process.OpenTTY()
		if err != nil {
			return theirs, err
		}
		pipes.master = master
		return [3]*os.File{slave, slave, slave}, nil
	}
	theirs[0] = nothing
	if e.stdin != nil {
		nothing.Close()
		if theirs[0], pipes.stdin, err = os.Pipe(); err != nil {
			return theirs, fmt.Errorf("make a pipe: %w", err)
		}
	}
	if pipes.stdout, theirs[1], err = os.Pipe(); err != nil {
		return theirs, fmt.Errorf("make a pipe: %w", err)
	}
	if pipes.stderr, theirs[2], err = os.Pipe(); err != nil {
		return theirs, fmt.Errorf("make a pipe: %w", err)
	}
	return theirs, nil
}

func closeFiles(files [3]*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close() // a terminal is there three times; closing again is refused and harmless
		}
	}
}

// wait copies the streams until the command has ended and its outputs are at their end.
func (e execution) wait(ctx context.Context, pid int, pipes *execPipes) error {
	var outputs sync.WaitGroup
	if e.tty {
		outputs.Go(func() { drain(e.stdout, pipes.master) })
		go feed(pipes.master, e.stdin, false)
		go resizeAll(pipes.master, e.resize)
	} else {
		outputs.Go(func() { drain(e.stdout, pipes.stdout) })
		outputs.Go(func() { drain(e.stderr, pipes.stderr) })
		go feed(pipes.stdin, e.stdin, true)
	}
	child := process.NewChild(pid)
	stop := context.AfterFunc(ctx, func() { child.Signal(unix.SIGKILL) })
	defer stop()
	code, _, err := child.Wait()
	if err != nil {
		return err
	}
	// A background process it left may hold the outputs open; give what is written a moment to arrive.
	limit := time.AfterFunc(time.Second, pipes.close)
	outputs.Wait()
	limit.Stop()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return exitError(e.args, code)
}

func exitError(args []string, code int) error {
	if code == 0 {
		return nil
	}
	return utilexec.CodeExitError{Err: fmt.Errorf("command %q exited with %d", strings.Join(args, " "), code), Code: code}
}

// drain copies until the end of from; with nobody to give it to, it is thrown away.
func drain(to io.Writer, from io.Reader) {
	if to == nil {
		to = io.Discard
	}
	// Either side may go away first, which ends the command or its output, nothing else.
	if _, err := io.Copy(to, from); err != nil {
		_, _ = io.Copy(io.Discard, from)
	}
}

// feed copies a client's input to the command.
func feed(to *os.File, from io.Reader, closeAtEnd bool) {
	if to == nil || from == nil {
		return
	}
	_, _ = io.Copy(to, from) // ends with either side
	if closeAtEnd {
		to.Close()
	}
}

func resizeAll(master *os.File, sizes <-chan remotecommand.TerminalSize) {
	for size := range sizes {
		if process.Resize(master, size.Width, size.Height) != nil {
			return // the terminal is closed
		}
	}
}
