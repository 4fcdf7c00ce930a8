package runtime

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
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
	address, err := url.Parse(response.GetUrl())
	if err != nil {
		l.t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{}, "POST", address)
	if err != nil {
		l.t.Fatal(err)
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
