package runtime

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/sandbox"
)

// serverEnv makes the test binary a server over the given directory, for tests that kill one.
const serverEnv = "SVCPLANE_RUNTIME_TEST_SERVER"

// serveForAdoption runs a pod with two containers, says what they are and then serves until it is killed.
func serveForAdoption(dir string) int {
	fail := func(err error) int {
		fmt.Println("error", err)
		return 1
	}
	r, err := New(testConfig(dir))
	if err != nil {
		return fail(err)
	}
	ctx := context.Background()
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	config := podConfig("killed")
	config.LogDirectory = filepath.Join(dir, "logs")
	pod, err := r.RunPodSandbox(ctx, config, "")
	if err != nil {
		return fail(err)
	}
	fmt.Println("pod", pod)
	for _, c := range []*runtimeapi.ContainerConfig{containerConfig("svcplane/echo"), containerConfig("svcplane/host", "sh", "-c", "while :; do echo tick; sleep 0.05; done")} {
		c.LogPath = c.Image.Image + ".log"
		id, err := r.CreateContainer(ctx, pod, c, nil)
		if err == nil {
			err = r.StartContainer(ctx, id)
		}
		if err != nil {
			return fail(err)
		}
		fmt.Println("container", id)
	}
	return fail(<-done)
}

// killedServer runs a server in a mount namespace of its own, kills it and gives the IDs of what it ran.
func killedServer(t *testing.T, dir string) (pod, echo, host string) {
	t.Helper()
	server := exec.Command("/proc/self/exe")
	server.Env = append(os.Environ(), serverEnv+"="+dir)
	server.Stderr = os.Stderr
	server.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	next := func(what string) string {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), what+" ") {
			t.Fatalf("the server says %q, not a %s", lines.Text(), what)
		}
		return strings.TrimPrefix(lines.Text(), what+" ")
	}
	pod, echo, host = next("pod"), next("container"), next("container")
	// The whole process group, as a terminal or an init system would.
	if err := syscall.Kill(-server.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	server.Wait()
	return pod, echo, host
}

// TestAdoptionAfterSIGKILL also has the server before and after in different mount namespaces, as those that
// `ip netns exec` starts are.
func TestAdoptionAfterSIGKILL(t *testing.T) {
	l := newLab(t)
	l.stop()
	pod, echo, host := killedServer(t, l.dir)
	logPath := filepath.Join(l.dir, "logs/svcplane/host.log")
	size := func() int64 {
		info, err := os.Stat(logPath)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	killedAt := size()
	eventually(t, "the log grows while no server runs", func() bool { return size() > killedAt })
	l.start()
	ip := l.ip(pod)
	if got := l.get("http://" + ip + ":8080/hostname"); got != "killed" {
		t.Errorf("the adopted pod answers %q", got)
	}
	if got := l.sh(host, "hostname; cat /etc/resolv.conf | head -1"); got != "killed\nnameserver 10.96.0.10" {
		t.Errorf("exec into the adopted process: %q", got)
	}
	if got := l.sh(echo, "ip -4 -o address show dev eth0"); !strings.Contains(got, ip) {
		t.Errorf("exec into the adopted echo container: %q", got)
	}
	if got := sh(t, "ip netns exec "+sandbox.NetnsName(pod)+" ip -4 -o address show dev eth0"); !strings.Contains(got, ip) {
		t.Errorf("ip netns exec into the adopted pod: %q", got)
	}
	if err := l.StopContainer(context.Background(), host, 5); err != nil {
		t.Fatal(err)
	}
	if status := l.status(host); status.GetExitCode() != 143 {
		t.Errorf("the adopted process ended with %d, want 143", status.GetExitCode())
	}
	again := l.run(pod, containerConfig("svcplane/host", "sh", "-c", "hostname; exit 4"))
	if status := l.waitExited(again); status.GetExitCode() != 4 {
		t.Errorf("a new container in the adopted pod ended with %d, want 4", status.GetExitCode())
	}
}

func TestReopenedLog(t *testing.T) {
	l := newLab(t)
	id := l.run(l.sandbox(podConfig("rotated")), containerConfig("svcplane/host", "sh", "-c", "while :; do echo tick; sleep 0.02; done"))
	path := filepath.Join(l.logs, "rotated/main/0.log")
	eventually(t, "it wrote", func() bool { return strings.Contains(l.log("rotated"), "tick") })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.ReopenContainerLog(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it writes to the new file", func() bool { return strings.Contains(l.log("rotated"), "tick") })
}

func TestEvents(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancel(context.Background())
	events := make(chan *runtimeapi.ContainerEventResponse, 100)
	connected, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- l.GetContainerEvents(ctx, events, func(runtimeapi.RuntimeService_GetContainerEventsClient) { close(connected) })
	}()
	<-connected
	pod := l.sandbox(podConfig("watched"))
	id := l.run(pod, containerConfig("svcplane/host", "true"))
	want := []struct {
		id   string
		kind runtimeapi.ContainerEventType
	}{
		{pod, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT},
		{id, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT},
		{id, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT},
		{id, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT},
	}
	seen := map[string]bool{}
	eventually(t, "all events arrive", func() bool {
		for len(events) > 0 {
			e := <-events
			seen[fmt.Sprint(e.GetContainerId(), e.GetContainerEventType())] = true
			if uid := e.GetPodSandboxStatus().GetMetadata().GetUid(); uid != "uid-watched" {
				t.Errorf("an event is of pod %q", uid)
			}
		}
		for _, w := range want {
			if !seen[fmt.Sprint(w.id, w.kind)] {
				return false
			}
		}
		return true
	})
	cancel()
	<-done
}
