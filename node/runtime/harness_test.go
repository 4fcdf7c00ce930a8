package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/listeners"
	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/process"
)

var testCIDR = netip.MustParsePrefix("10.244.7.0/24")

// lab is a runtime over a data directory of its own, removed with the test.
type lab struct {
	*Runtime
	t    *testing.T
	dir  string
	logs string
	stop func()
	own  listeners.Set // of the next start
}

func testConfig(dir string) Config {
	return Config{DataDir: dir, NodeName: "node-1", PodCIDR: testCIDR, NoMasquerade: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		Cgroups: cgroup.New(cgroup.Config{DataDir: dir})}
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return newLabIn(t, t.TempDir())
}

func newLabIn(t *testing.T, dir string) *lab {
	t.Helper()
	l := &lab{t: t, dir: dir, logs: t.TempDir()}
	t.Cleanup(func() {
		l.stop()
		if err := Cleanup(context.Background(), l.dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	l.start()
	return l
}

// start runs the runtime, as the server does at its start.
func (l *lab) start() {
	l.t.Helper()
	config := testConfig(l.dir)
	config.Own = l.own
	r, err := New(config)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	l.stop = func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("run: %v", err)
		}
		l.stop = func() {}
	}
	select {
	case <-r.Ready():
	case err := <-done:
		done <- nil
		l.t.Fatalf("start: %v", err)
	case <-time.After(30 * time.Second):
		l.t.Fatal("not ready in 30 s")
	}
	l.Runtime = r
}

func podConfig(name string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		Hostname: name, DnsConfig: &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"default.svc.cluster.local"}},
		Labels: map[string]string{"app": name},
		Linux: &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}},
	}
}

func (l *lab) sandbox(config *runtimeapi.PodSandboxConfig) string {
	l.t.Helper()
	config.LogDirectory = filepath.Join(l.logs, config.Metadata.Name)
	id, err := l.RunPodSandbox(context.Background(), config, "")
	if err != nil {
		l.t.Fatal(err)
	}
	return id
}

func (l *lab) ip(sandbox string) string {
	l.t.Helper()
	status, err := l.PodSandboxStatus(context.Background(), sandbox, false)
	if err != nil {
		l.t.Fatal(err)
	}
	return status.GetStatus().GetNetwork().GetIp()
}

func containerConfig(image string, command ...string) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "main"}, Image: &runtimeapi.ImageSpec{Image: image}, Command: command, LogPath: "main/0.log",
		Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
			NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}},
	}
}

func withPorts(c *runtimeapi.ContainerConfig, ports string) *runtimeapi.ContainerConfig {
	c.Annotations = map[string]string{portsAnnotation: ports}
	return c
}

// run creates and starts a container.
func (l *lab) run(sandbox string, config *runtimeapi.ContainerConfig) string {
	l.t.Helper()
	id, err := l.CreateContainer(context.Background(), sandbox, config, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.StartContainer(context.Background(), id); err != nil {
		l.t.Fatal(err)
	}
	return id
}

func (l *lab) status(id string) *runtimeapi.ContainerStatus {
	l.t.Helper()
	response, err := l.ContainerStatus(context.Background(), id, false)
	if err != nil {
		l.t.Fatal(err)
	}
	return response.GetStatus()
}

func (l *lab) waitExited(id string) *runtimeapi.ContainerStatus {
	l.t.Helper()
	var status *runtimeapi.ContainerStatus
	eventually(l.t, "the container ends", func() bool {
		status = l.status(id)
		return status.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	return status
}

// log gives the text of a container's log without times and streams.
func (l *lab) log(pod string) string {
	raw, _ := os.ReadFile(filepath.Join(l.logs, pod, "main/0.log"))
	var text strings.Builder
	for line := range strings.Lines(string(raw)) {
		if parts := strings.SplitN(line, " ", 4); len(parts) == 4 {
			text.WriteString(parts[3])
		}
	}
	return text.String()
}

func (l *lab) sh(id, script string) string {
	l.t.Helper()
	out, errOut, err := l.ExecSync(context.Background(), id, []string{"sh", "-c", script}, 20*time.Second)
	if err != nil {
		l.t.Fatalf("exec %q: %v: %s%s", script, err, out, errOut)
	}
	return strings.TrimSpace(string(out))
}

// get is an HTTP GET over a connection of its own.
func get(url string) (string, error) {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", response.Status, body)
	}
	return strings.TrimSpace(string(body)), err
}

func (l *lab) get(url string) string {
	l.t.Helper()
	body, err := get(url)
	if err != nil {
		l.t.Fatal(err)
	}
	return body
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not in 15 s: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (l *lab) shimProcess() process.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shimID
}
