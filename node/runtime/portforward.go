package runtime

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/process"
)

const (
	forwardDialTimeout = 10 * time.Second // for connecting within a pod, where nothing is far away
	forwardLastWords   = time.Minute      // for the pod to finish once the client has said all it had to say
)

// PortForward hands out the URL at which connections into the pod are made.
func (r *Runtime) PortForward(_ context.Context, request *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	if _, err := r.readySandbox(request.GetPodSandboxId()); err != nil {
		return nil, err
	}
	r.streams.mu.Lock()
	defer r.streams.mu.Unlock()
	return r.streams.server.GetPortForward(request)
}

// readySandbox finds a sandbox whose network is there.
func (r *Runtime) readySandbox(id string) (*sandboxEntry, error) {
	pod, err := r.sandbox(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if pod.State != sandboxReady || pod.namespaces == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "port-forward to pod %s: it does not run", podName(pod.config))
	}
	return pod, nil
}

// PortForward is one connection of kubectl port-forward: to the loopback of the pod, as a container of the pod
// would make it, so that it also reaches what listens nowhere else.
func (s *streams) PortForward(ctx context.Context, sandboxID string, port int32, client io.ReadWriteCloser) error {
	defer client.Close()
	pod, err := s.runtime.readySandbox(sandboxID)
	if err != nil {
		return err
	}
	conn, err := dialLoopback(ctx, pod.namespaces.Paths().Net, port)
	if err != nil {
		return fmt.Errorf("port-forward to pod %s: %w", podName(pod.config), err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		_, _ = io.Copy(conn, client) // ends with either side, as the one below
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(forwardLastWords))
	}()
	_, _ = io.Copy(client, conn)
	return nil
}

// dialLoopback connects to a TCP port on 127.0.0.1 or, if nobody listens there, ::1 of a network namespace.
func dialLoopback(ctx context.Context, netns string, port int32) (*net.TCPConn, error) {
	var conn net.Conn
	err := process.InNet(netns, func() error {
		dialer := net.Dialer{Timeout: forwardDialTimeout}
		var first error
		for _, host := range []string{"127.0.0.1", "::1"} {
			var err error
			if conn, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port)))); err == nil {
				return nil
			}
			first = cmp.Or(first, err)
		}
		return first
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}
