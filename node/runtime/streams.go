package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"svcplane/node/runtime/image"
	"svcplane/node/runtime/shim"
)

// streams serves exec, attach and port-forward sessions: CRI hands out URLs with a token that is good once.
type streams struct {
	runtime *Runtime

	mu     sync.Mutex
	server streaming.Server
}

func newStreams(r *Runtime) *streams { return &streams{runtime: r} }

// listen opens the socket and makes the server whose URLs lead to it.
func (s *streams) listen(ctx context.Context, addr string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for exec streams on %s: %w", addr, err)
	}
	settings := streaming.DefaultConfig
	settings.BaseURL = &url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/"}
	server, err := streaming.NewServer(settings, s)
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("serve exec streams: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = server
	return listener, nil
}

// serve answers until ctx ends, which also ends all sessions.
func (s *streams) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: s.server, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Exec is a session of kubectl exec.
func (s *streams) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	e := execution{id: id, args: cmd, stdin: in, tty: tty, resize: resize}
	// An interface that holds a nil stream is not nil itself.
	if out != nil {
		e.stdout = out
	}
	if errOut != nil {
		e.stderr = errOut
	}
	return s.runtime.exec(ctx, e)
}

// Attach is a session of kubectl attach or kubectl run -i.
func (s *streams) Attach(ctx context.Context, id string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	entry, err := s.runtime.container(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := shim.Attachment{Stdin: in, Resize: sizesOf(ctx, resize)}
	if out != nil {
		a.Stdout = out
	}
	if errOut != nil {
		a.Stderr = errOut
	}
	return s.runtime.shim.Attach(ctx, entry.ID, a)
}

// sizesOf passes sizes of a terminal on until ctx ends.
func sizesOf(ctx context.Context, from <-chan remotecommand.TerminalSize) <-chan shim.Size {
	to := make(chan shim.Size)
	go func() {
		defer close(to)
		for {
			select {
			case size, ok := <-from:
				if !ok {
					return
				}
				select {
				case to <- shim.Size{Width: size.Width, Height: size.Height}:
				case <-ctx.Done():
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return to
}

// Exec hands out the URL at which the command is run.
func (r *Runtime) Exec(ctx context.Context, request *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	entry, err := r.container(ctx, request.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := r.mayConnect(entry); err != nil {
		return nil, err
	}
	r.streams.mu.Lock()
	defer r.streams.mu.Unlock()
	return r.streams.server.GetExec(request)
}

// Attach hands out the URL at which a client is connected with the container's process.
func (r *Runtime) Attach(ctx context.Context, request *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	entry, err := r.container(ctx, request.GetContainerId())
	if err != nil {
		return nil, err
	}
	if entry.Kind == kindEcho {
		return nil, unimplemented("attach for the builtin image " + image.Echo + ", which has no terminal; use kubectl exec or kubectl logs -f")
	}
	if err := r.mayConnect(entry); err != nil {
		return nil, err
	}
	r.streams.mu.Lock()
	defer r.streams.mu.Unlock()
	return r.streams.server.GetAttach(request)
}

// mayConnect says why people may not be connected with a container, or nil.
func (r *Runtime) mayConnect(entry *containerEntry) error {
	pod, err := r.sandbox(entry.SandboxID)
	if err != nil {
		return err
	}
	return r.mayEnter(pod, entry.Kind)
}
