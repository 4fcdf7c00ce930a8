package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"
)

func TestHostContainerLogsAndExits(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("worker"))
	config := containerConfig("svcplane/host", "sh", "-c", `echo "hello $NAME"; echo oops >&2; hostname; exit 3`)
	config.Envs = []*runtimeapi.KeyValue{{Key: "NAME", Value: []byte("world")}}
	id := l.run(pod, config)
	status := l.waitExited(id)
	if status.GetExitCode() != 3 || status.GetReason() != "Error" {
		t.Errorf("it ended with %d %s, want 3 Error", status.GetExitCode(), status.GetReason())
	}
	text := l.log("worker")
	for _, want := range []string{"hello world\n", "oops\n", "worker\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the log: %q", want, text)
		}
	}
	raw, err := os.ReadFile(filepath.Join(l.logs, "worker/main/0.log"))
	if err != nil || !strings.Contains(string(raw), " stderr F oops\n") {
		t.Errorf("the log is not in the CRI format: %v %q", err, raw)
	}
}

func TestHostContainerHasOnlyItsOwnProcesses(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("alone"))
	id := l.run(pod, containerConfig("svcplane/host", "sleep", "1000"))
	processes := l.sh(id, "for p in /proc/[0-9]*; do cat $p/comm; done | sort")
	for name := range strings.Lines(processes) {
		switch strings.TrimSpace(name) {
		case "svcplane-init", "sleep", "sh", "sort", "cat":
		default:
			t.Errorf("the container sees the process %s", name)
		}
	}
	if err := l.StopContainer(context.Background(), id, 5); err != nil {
		t.Fatal(err)
	}
	// SIGTERM ends it although it has no handler: it is not PID 1.
	if status := l.status(id); status.GetExitCode() != 143 {
		t.Errorf("exit code %d, want 143 (SIGTERM)", status.GetExitCode())
	}
}

func TestStopEndsEveryProcess(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("stubborn"))
	marker := fmt.Sprintf("31%07d", os.Getpid())
	id := l.run(pod, containerConfig("svcplane/host", "sh", "-c", `trap "" TERM; setsid sleep `+marker+` & while :; do sleep 0.1; done`))
	eventually(t, "the background process runs", func() bool { return len(processesWith(t, marker)) > 0 })
	if err := l.StopContainer(context.Background(), id, 1); err != nil {
		t.Fatal(err)
	}
	if status := l.status(id); status.GetExitCode() != 137 {
		t.Errorf("exit code %d, want 137 (SIGKILL)", status.GetExitCode())
	}
	eventually(t, "the background process is gone", func() bool { return len(processesWith(t, marker)) == 0 })
}

// processesWith lists the processes that have word on their command line.
func processesWith(t *testing.T, word string) []int {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(raw), word) && strings.HasPrefix(string(raw), "sleep") {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestExitCodeSurvivesARestartOfTheServer(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("later"))
	flag := filepath.Join(t.TempDir(), "go")
	id := l.run(pod, containerConfig("svcplane/host", "sh", "-c", "while [ ! -e "+flag+" ]; do sleep 0.02; done; echo bye; exit 7"))
	l.stop()
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it wrote its last line while the server is down", func() bool { return strings.Contains(l.log("later"), "bye") })
	l.start()
	if status := l.waitExited(id); status.GetExitCode() != 7 {
		t.Errorf("exit code %d, want 7", status.GetExitCode())
	}
}

func TestMountsLeaveNoTraceOnTheHost(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("mounter"))
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "key"), []byte("value"), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(volume, "key")
	config := containerConfig("svcplane/host", "sleep", "1000")
	config.Mounts = []*runtimeapi.Mount{
		{HostPath: volume, ContainerPath: "/svcplane-test-root/deep/down"},
		{HostPath: volume, ContainerPath: "/var/run/secrets/kubernetes.io/serviceaccount", Readonly: true},
		{HostPath: file, ContainerPath: "/etc/svcplane-test.conf", Readonly: true},
	}
	id := l.run(pod, config)
	for _, path := range []string{"/svcplane-test-root/deep/down/key", "/var/run/secrets/kubernetes.io/serviceaccount/key", "/etc/svcplane-test.conf"} {
		if got := l.sh(id, "cat "+path); got != "value" {
			t.Errorf("%s holds %q", path, got)
		}
	}
	if got := l.sh(id, "cat /etc/resolv.conf"); got != "nameserver 10.96.0.10\nsearch default.svc.cluster.local" {
		t.Errorf("resolv.conf is %q", got)
	}
	if got := l.sh(id, "touch /var/run/secrets/kubernetes.io/serviceaccount/x 2>&1 || true"); !strings.Contains(got, "Read-only") {
		t.Errorf("writing to a read-only mount: %q", got)
	}
	if got := l.sh(id, "ls /proc/self/fd >/dev/null && ls -d /sys /dev/null /usr/bin && touch /svcplane-test-file && echo ok"); !strings.HasSuffix(got, "ok") {
		t.Errorf("the host's root in the container: %q", got)
	}
	l.sh(id, "echo changed > /svcplane-test-root/deep/down/key")
	for _, path := range []string{"/svcplane-test-root", "/svcplane-test-file", "/var/run/secrets/kubernetes.io", "/etc/svcplane-test.conf"} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is on the host: %v", path, err)
			os.RemoveAll(path)
		}
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "changed\n" {
		t.Errorf("what was written to the volume is not there: %q %v", raw, err)
	}
}

func TestExec(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("target"))
	config := containerConfig("svcplane/echo")
	config.Envs = []*runtimeapi.KeyValue{{Key: "TOAD_SVC_SERVICE_HOST", Value: []byte("10.96.1.1")}}
	id := l.run(pod, config)
	if got := l.sh(id, "echo $TOAD_SVC_SERVICE_HOST; hostname; cat /etc/resolv.conf | head -1; cat /etc/hostname"); got != "10.96.1.1\ntarget\nnameserver 10.96.0.10\ntarget" {
		t.Errorf("exec sees %q", got)
	}
	if got := l.sh(id, "ip -4 -o address show dev eth0"); !strings.Contains(got, l.ip(pod)+"/32") {
		t.Errorf("exec is not in the pod's network: %q", got)
	}
	if got := l.sh(id, "cat /proc/1/comm"); got != "svcplane-init" {
		t.Errorf("PID 1 is %q; an exec into an echo pod must not see the host's processes", got)
	}
	_, errOut, err := l.ExecSync(context.Background(), id, []string{"sh", "-c", "echo no >&2; exit 9"}, 0)
	var exit utilexec.CodeExitError
	if !errors.As(err, &exit) || exit.Code != 9 || string(errOut) != "no\n" {
		t.Errorf("a command that fails: %v %q, want code 9", err, errOut)
	}
	if _, _, err := l.ExecSync(context.Background(), id, []string{"no-such-command"}, 0); err == nil || !strings.Contains(err.Error(), "executable file not found") {
		t.Errorf("a command that does not exist: %v", err)
	}
	begin := time.Now()
	_, _, err = l.ExecSync(context.Background(), id, []string{"sleep", "1000"}, 300*time.Millisecond)
	if status.Code(err) != codes.DeadlineExceeded || time.Since(begin) > 10*time.Second {
		t.Errorf("a command that takes too long: %v after %s", err, time.Since(begin))
	}
}

func TestExecIntoUserAndCapabilities(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("user"))
	config := containerConfig("svcplane/host", "sleep", "1000")
	security := config.Linux.SecurityContext
	security.RunAsUser, security.RunAsGroup = &runtimeapi.Int64Value{Value: 1234}, &runtimeapi.Int64Value{Value: 4321}
	security.SupplementalGroups = []int64{77}
	id := l.run(pod, config)
	if got := l.sh(id, "id -u; id -g; id -G"); got != "1234\n4321\n4321 77" {
		t.Errorf("ids are %q", got)
	}
	root := l.run(l.sandbox(podConfig("caps")), containerConfig("svcplane/host", "sleep", "1000"))
	got := l.sh(root, "grep CapEff /proc/self/status")
	effective, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(got, "CapEff:")), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if effective&(1<<unix.CAP_SYS_ADMIN) != 0 || effective&(1<<unix.CAP_NET_RAW) == 0 {
		t.Errorf("capabilities of an ordinary container are %x", effective)
	}
}

func TestSharedAndHostPIDNamespaces(t *testing.T) {
	l := newLab(t)
	config := podConfig("shared")
	config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	pod := l.sandbox(config)
	share := func(mode runtimeapi.NamespaceMode, args ...string) *runtimeapi.ContainerConfig {
		c := containerConfig("svcplane/host", args...)
		c.Linux.SecurityContext.NamespaceOptions.Pid = mode
		return c
	}
	first := l.run(pod, share(runtimeapi.NamespaceMode_POD, "sleep", "1001"))
	second := l.run(pod, share(runtimeapi.NamespaceMode_POD, "sleep", "1002"))
	if got := l.sh(second, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"); !strings.Contains(got, "sleep 1001") {
		t.Errorf("containers of one PID namespace don't see each other: %q", got)
	}
	if err := l.StopContainer(context.Background(), first, 5); err != nil {
		t.Fatal(err)
	}
	if status := l.status(second); status.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("stopping one container of a shared PID namespace left the other %v", status.GetState())
	}
	hostConfig := podConfig("host")
	hostConfig.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_NODE
	host := l.run(l.sandbox(hostConfig), share(runtimeapi.NamespaceMode_NODE, "sleep", "1003"))
	if got := l.sh(host, fmt.Sprintf("cat /proc/%d/comm", l.shimProcess().PID)); !strings.HasPrefix(got, "runtime.test") {
		t.Errorf("a hostPID container does not see the host's processes: %q", got)
	}
	left := l.run(l.sandbox(hostConfig), share(runtimeapi.NamespaceMode_NODE, "sh", "-c", "sleep 1004004 & exit 2"))
	if status := l.waitExited(left); status.GetExitCode() != 2 {
		t.Errorf("it ended with %d, want 2", status.GetExitCode())
	}
	eventually(t, "what it left in the host's PID namespace is gone", func() bool { return len(processesWith(t, "1004004")) == 0 })
}
