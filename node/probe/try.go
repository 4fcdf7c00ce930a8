package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	kprobe "k8s.io/kubernetes/pkg/probe"
	grpcprobe "k8s.io/kubernetes/pkg/probe/grpc"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"
	tcpprobe "k8s.io/kubernetes/pkg/probe/tcp"
	utilexec "k8s.io/utils/exec"

	"svcplane/node/env"
)

// maxOutput bounds what of a command's output goes into an Event (kubelet: 10 KiB).
const maxOutput = 10 * 1024

type tools struct {
	http httpprobe.Prober
	tcp  tcpprobe.Prober
	grpc grpcprobe.Prober
	exec Exec
}

// Exec runs a command in a container and gives its output, both streams. A command that ran and failed is
// an error with ExitStatus() int (k8s.io/utils/exec.ExitError); anything else means that it did not run.
type Exec func(ctx context.Context, containerID string, command []string, timeout time.Duration) ([]byte, error)

func newTools(exec Exec) tools {
	return tools{http: httpprobe.New(false), tcp: tcpprobe.New(), grpc: grpcprobe.New(), exec: exec}
}

// try makes one attempt. An error means that there is no result: it counts neither way.
func (ts *tools) try(ctx context.Context, p *corev1.Probe, t *Target) (kprobe.Result, string, error) {
	timeout := seconds(p.TimeoutSeconds, 1)
	switch {
	case p.Exec != nil:
		return ts.tryExec(ctx, p.Exec.Command, timeout, t)
	case p.HTTPGet != nil:
		req, err := httpprobe.NewRequestForHTTPGetAction(p.HTTPGet, t.Container, t.IP.String(), "probe")
		if err != nil {
			return kprobe.Unknown, "", err
		}
		return ts.http.Probe(req.WithContext(ctx), timeout)
	case p.TCPSocket != nil:
		port, err := kprobe.ResolveContainerPort(p.TCPSocket.Port, t.Container)
		if err != nil {
			return kprobe.Unknown, "", err
		}
		host := p.TCPSocket.Host
		if host == "" {
			host = t.IP.String()
		}
		return ts.tcp.Probe(host, port, timeout)
	case p.GRPC != nil:
		service := ""
		if p.GRPC.Service != nil {
			service = *p.GRPC.Service
		}
		return ts.grpc.Probe(t.IP.String(), service, int(p.GRPC.Port), timeout)
	}
	return kprobe.Unknown, "", fmt.Errorf("missing probe handler for %s/%s:%s", t.Pod.Namespace, t.Pod.Name, t.Container.Name)
}

func (ts *tools) tryExec(ctx context.Context, command []string, timeout time.Duration, t *Target) (kprobe.Result, string, error) {
	// The extra second is for the runtime: its own timeout tells more than a cancelled call.
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Second)
	defer cancel()
	words := env.Expand(command, env.Static(t.Container.Env))
	out, err := ts.exec(ctx, t.ID, words, timeout)
	text := string(out[:min(len(out), maxOutput)])
	var exit utilexec.ExitError
	switch {
	case err == nil:
		return kprobe.Success, text, nil
	case errors.As(err, &exit):
		return kprobe.Failure, text, nil
	case timedOut(err):
		return kprobe.Failure, fmt.Sprintf("command %q timed out after %v", strings.Join(words, " "), timeout), nil
	}
	return kprobe.Unknown, "", err
}

// timedOut also knows the text of a gRPC status: errors.Is does not reach through a remote runtime.
func timedOut(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "DeadlineExceeded") || strings.Contains(err.Error(), "timed out")
}
