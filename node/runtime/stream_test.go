package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	clientexec "k8s.io/client-go/util/exec"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// stream runs a command as kubectl exec does, over the URL that CRI gives.
func (l *lab) stream(request *runtimeapi.ExecRequest, options remotecommand.StreamOptions) error {
	l.t.Helper()
	response, err := l.Exec(context.Background(), request)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.session(response.GetUrl(), options)
}

// session is one over a URL that CRI gave.
func (l *lab) session(target string, options remotecommand.StreamOptions) error {
	address, err := url.Parse(target)
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{}, "POST", address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return executor.StreamWithContext(ctx, options)
}

func TestExecStreams(t *testing.T) {
	l := newLab(t)
	id := l.run(l.sandbox(podConfig("streamed")), containerConfig("svcplane/echo"))
	var out, errOut bytes.Buffer
	err := l.stream(&runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"sh", "-c", "cat; echo done >&2; exit 5"}, Stdin: true, Stdout: true, Stderr: true},
		remotecommand.StreamOptions{Stdin: strings.NewReader("some input"), Stdout: &out, Stderr: &errOut})
	var exit clientexec.CodeExitError
	if !errors.As(err, &exit) || exit.Code != 5 || out.String() != "some input" || errOut.String() != "done\n" {
		t.Errorf("it ended with %v and wrote %q, %q", err, out.String(), errOut.String())
	}
}

// sizes is a terminal that has one size.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s
	if !ok {
		return nil
	}
	return &size
}

// lockedBuffer is written by the stream while the test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func TestExecTerminal(t *testing.T) {
	l := newLab(t)
	id := l.run(l.sandbox(podConfig("terminal")), containerConfig("svcplane/host", "sleep", "1000"))
	size := make(sizes, 1)
	size <- remotecommand.TerminalSize{Width: 101, Height: 33}
	typed, keyboard := io.Pipe()
	out := &lockedBuffer{}
	done := make(chan error, 1)
	go func() {
		done <- l.stream(&runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"sh"}, Tty: true, Stdin: true, Stdout: true},
			remotecommand.StreamOptions{Stdin: typed, Stdout: out, Tty: true, TerminalSizeQueue: size})
	}()
	eventually(t, "the terminal has the client's size", func() bool {
		io.WriteString(keyboard, "stty size\n")
		time.Sleep(50 * time.Millisecond)
		return strings.Contains(out.String(), "33 101")
	})
	io.WriteString(keyboard, "sleep 1000\n")
	time.Sleep(100 * time.Millisecond)
	io.WriteString(keyboard, "\x03") // Ctrl-C ends the sleep, not the shell
	io.WriteString(keyboard, "echo still $((40+2)); exit 6\n")
	var exit clientexec.CodeExitError
	if err := <-done; !errors.As(err, &exit) || exit.Code != 6 {
		t.Errorf("the shell ended with %v, want code 6: %q", err, out.String())
	}
	if !strings.Contains(out.String(), "still 42") {
		t.Errorf("the shell wrote %q", out.String())
	}
	close(size)
}

func TestExecEndsWithItsClient(t *testing.T) {
	l := newLab(t)
	id := l.run(l.sandbox(podConfig("left")), containerConfig("svcplane/echo"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, _, err := l.ExecSync(ctx, id, []string{"sleep", "1234567"}, 0)
		done <- err
	}()
	eventually(t, "the command runs", func() bool { return len(processesWith(t, "1234567")) == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	eventually(t, "the command is gone", func() bool { return len(processesWith(t, "1234567")) == 0 })
}

// forward makes one connection to a port of the pod as kubectl port-forward does.
func (l *lab) forward(sandbox string, port int) string {
	l.t.Helper()
	response, err := l.PortForward(context.Background(), &runtimeapi.PortForwardRequest{PodSandboxId: sandbox})
	if err != nil {
		l.t.Fatal(err)
	}
	address, err := url.Parse(response.GetUrl())
	if err != nil {
		l.t.Fatal(err)
	}
	transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
	if err != nil {
		l.t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", address)
	ready, stop := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(dialer, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	defer func() { <-done }()
	defer close(stop)
	select {
	case <-ready:
	case err := <-done:
		done <- err
		l.t.Fatal(err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		l.t.Fatal(err)
	}
	return l.get(fmt.Sprintf("http://127.0.0.1:%d/hostname", ports[0].Local))
}

func TestPortForward(t *testing.T) {
	l := newLab(t)
	sandbox := l.sandbox(podConfig("forwarded"))
	l.run(sandbox, withPorts(containerConfig("svcplane/echo"), `[{"containerPort":7001}]`))
	if got := l.forward(sandbox, 7001); got != "forwarded" {
		t.Errorf("port 7001 answered %q", got)
	}
	client, _ := net.Pipe()
	err := l.streams.PortForward(context.Background(), sandbox, 7002, client)
	if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "pod default/forwarded") {
		t.Errorf("port 7002, where nobody listens: %v", err)
	}
	if err := l.StopPodSandbox(context.Background(), sandbox); err != nil {
		t.Fatal(err)
	}
	if _, err := l.PortForward(context.Background(), &runtimeapi.PortForwardRequest{PodSandboxId: sandbox}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a stopped pod: %v", err)
	}
}

// attach connects to a container's process as kubectl attach does.
func (l *lab) attach(request *runtimeapi.AttachRequest, options remotecommand.StreamOptions) <-chan error {
	l.t.Helper()
	response, err := l.Attach(context.Background(), request)
	if err != nil {
		l.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.session(response.GetUrl(), options) }()
	return done
}

func TestAttachToStandardInput(t *testing.T) {
	l := newLab(t)
	config := containerConfig("svcplane/host", "sh", "-c", "cat; echo ended >&2")
	config.Stdin, config.StdinOnce = true, true
	id := l.run(l.sandbox(podConfig("attached")), config)
	var out, errOut bytes.Buffer
	err := <-l.attach(&runtimeapi.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Stderr: true},
		remotecommand.StreamOptions{Stdin: strings.NewReader("some input\n"), Stdout: &out, Stderr: &errOut})
	if err != nil || out.String() != "some input\n" || errOut.String() != "ended\n" {
		t.Errorf("it ended with %v and wrote %q, %q", err, out.String(), errOut.String())
	}
	if status := l.waitExited(id); status.ExitCode != 0 {
		t.Errorf("exit code %d", status.ExitCode)
	}
	// Two pipes: which of the lines comes first is nobody's promise.
	if got := l.log("attached"); !strings.Contains(got, "some input\n") || !strings.Contains(got, "ended\n") {
		t.Errorf("the log has %q", got)
	}
}

func TestAttachTwiceToTerminal(t *testing.T) {
	l := newLab(t)
	config := containerConfig("svcplane/host", "sh")
	config.Stdin, config.Tty = true, true
	id := l.run(l.sandbox(podConfig("shell")), config)
	// Somebody who only looks, and somebody who types and leaves without ending the shell.
	seen := &lockedBuffer{}
	looking := l.attach(&runtimeapi.AttachRequest{ContainerId: id, Tty: true, Stdout: true}, remotecommand.StreamOptions{Stdout: seen, Tty: true})
	size := make(sizes, 1)
	size <- remotecommand.TerminalSize{Width: 99, Height: 31}
	defer close(size)
	typed, keyboard := io.Pipe()
	out := &lockedBuffer{}
	typing := l.attach(&runtimeapi.AttachRequest{ContainerId: id, Tty: true, Stdin: true, Stdout: true},
		remotecommand.StreamOptions{Stdin: typed, Stdout: out, Tty: true, TerminalSizeQueue: size})
	eventually(t, "both see the terminal, which has the client's size", func() bool {
		io.WriteString(keyboard, "stty size\n")
		time.Sleep(50 * time.Millisecond)
		return strings.Contains(out.String(), "31 99") && strings.Contains(seen.String(), "31 99")
	})
	io.WriteString(keyboard, "exit 7\n")
	for _, session := range []<-chan error{looking, typing} {
		if err := <-session; err != nil {
			t.Errorf("a session ended with %v: %q", err, out.String())
		}
	}
	if status := l.waitExited(id); status.ExitCode != 7 {
		t.Errorf("exit code %d, want 7", status.ExitCode)
	}
}

func TestAttachToEchoIsRefused(t *testing.T) {
	l := newLab(t)
	id := l.run(l.sandbox(podConfig("no-terminal")), containerConfig("svcplane/echo"))
	if _, err := l.Attach(context.Background(), &runtimeapi.AttachRequest{ContainerId: id, Stdout: true}); status.Code(err) != codes.Unimplemented {
		t.Errorf("want Unimplemented, got %v", err)
	}
}
