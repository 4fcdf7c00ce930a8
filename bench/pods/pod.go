package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// marks receive what processes say when they run.
type marks struct {
	dir  string
	conn *net.UnixConn

	mu   sync.Mutex
	wait map[string]chan struct{}
}

const (
	socketName = "socket"
	markDir    = "/marks" // in a container
)

func listen(dir string) (*marks, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, socketName), Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	m := &marks{dir: dir, conn: conn, wait: map[string]chan struct{}{}}
	go m.serve()
	return m, nil
}

func (m *marks) serve() {
	buf := make([]byte, 256)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			return // it was closed
		}
		m.mu.Lock()
		if c := m.wait[string(buf[:n])]; c != nil {
			close(c)
			delete(m.wait, string(buf[:n]))
		}
		m.mu.Unlock()
	}
}

func (m *marks) of(name string) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := make(chan struct{})
	m.wait[name] = c
	return c
}

func (m *marks) close() { _ = m.conn.Close() } // the process ends

// pod is one with one container.
type pod struct {
	by    *contender
	name  string
	marks *marks
	id    string
}

func newPod(by *contender, m *marks, name string) *pod {
	return &pod{by: by, name: by.name + "-" + name, marks: m}
}

// patience bounds the start of one pod.
const patience = time.Minute

// start makes the pod and returns how long it took until its process ran.
func (p *pod) start(ctx context.Context) (time.Duration, error) {
	runs := p.marks.of(p.name)
	uid := uuid.NewString()
	logs := filepath.Join(p.by.root, "logs", p.name)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return 0, err
	}
	sandbox := &runtimeapi.PodSandboxConfig{Hostname: p.name, LogDirectory: logs, DnsConfig: &runtimeapi.DNSConfig{},
		Metadata: &runtimeapi.PodSandboxMetadata{Name: p.name, Namespace: "default", Uid: uid}, Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    path.Join(p.by.cgroup, "pod"+uid),
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}}
	container := &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: "mark"}, Image: &runtimeapi.ImageSpec{Image: imageName},
		Args: []string{filepath.Join(markDir, socketName), p.name}, LogPath: "mark.log",
		Mounts: []*runtimeapi.Mount{{HostPath: p.marks.dir, ContainerPath: markDir}}, Linux: &runtimeapi.LinuxContainerConfig{
			Resources:       &runtimeapi.LinuxContainerResources{CpuPeriod: 100_000, CpuQuota: 200_000, CpuShares: 100, MemoryLimitInBytes: 256 << 20},
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}}
	began := time.Now()
	var err error
	if p.id, err = p.by.runtime.RunPodSandbox(ctx, sandbox, ""); err != nil {
		return 0, fmt.Errorf("making the sandbox: %w", err)
	}
	id, err := p.by.runtime.CreateContainer(ctx, p.id, container, sandbox)
	if err != nil {
		return 0, fmt.Errorf("making the container: %w", err)
	}
	if err := p.by.runtime.StartContainer(ctx, id); err != nil {
		return 0, fmt.Errorf("starting the container: %w", err)
	}
	select {
	case <-runs:
		return time.Since(began), nil
	case <-time.After(patience):
		text, _ := os.ReadFile(filepath.Join(logs, "mark.log")) // empty says enough
		return 0, fmt.Errorf("its process does not run: %s", text)
	}
}

func (p *pod) remove(ctx context.Context) error {
	return errors.Join(p.by.runtime.StopPodSandbox(ctx, p.id), p.by.runtime.RemovePodSandbox(ctx, p.id))
}
