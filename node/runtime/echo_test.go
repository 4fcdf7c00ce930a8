package runtime

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/echo"
	"svcplane/node/runtime/sandbox"
)

func TestEchoPodAnswers(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("toad"))
	l.run(pod, withPorts(containerConfig("svcplane/echo:v1"), `[{"containerPort":80},{"containerPort":53,"protocol":"UDP"}]`))
	ip := l.ip(pod)
	if got := l.get("http://" + ip + "/hostname"); got != "toad" {
		t.Errorf("/hostname answers %q, want toad", got)
	}
	reply := decode[echo.Reply](t, l.get("http://"+ip+"/some/path?q=1"))
	if reply.Pod != "toad" || reply.Node != "node-1" || reply.Namespace != "default" || reply.IP != ip || reply.Path != "/some/path?q=1" {
		t.Errorf("the pod says of itself %+v", reply)
	}
	if !strings.HasPrefix(reply.Client, "192.0.2.10:") {
		t.Errorf("the pod sees the node as %s, want 192.0.2.10", reply.Client)
	}
	eventually(t, "the requests are in the log", func() bool { return strings.Contains(l.log("toad"), `GET "/some/path?q=1" HTTP/1.1 200`) })
}

func TestStoppedPodLeavesNothing(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("gone"))
	l.run(pod, containerConfig("svcplane/echo"))
	ip := l.ip(pod)
	l.get("http://" + ip + ":8080/")
	if err := l.RemovePodSandbox(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	links, err := exec.Command("ip", "-o", "link").Output()
	if err != nil || strings.Contains(string(links), sandbox.LinkName(pod)) {
		t.Errorf("the link is still there: %v %s", err, links)
	}
	names, err := os.ReadDir(sandbox.NetnsDir)
	if err != nil || len(names) != 1 {
		t.Errorf("namespace files are still there: %v %v", err, names)
	}
	again := l.sandbox(podConfig("next"))
	if l.ip(again) == ip {
		t.Errorf("address %s is handed out again at once", ip)
	}
}

func TestEchoContainerEndsAsAsked(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("mortal"))
	id := l.run(pod, containerConfig("svcplane/echo"))
	response, err := http.Post("http://"+l.ip(pod)+":8080/exit?code=42", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	status := l.waitExited(id)
	if status.GetExitCode() != 42 || status.GetReason() != "Error" {
		t.Errorf("it ended with %d %s, want 42 Error", status.GetExitCode(), status.GetReason())
	}
	second := l.run(pod, containerConfig("svcplane/echo"))
	if got := l.get("http://" + l.ip(pod) + ":8080/hostname"); got != "mortal" {
		t.Errorf("restarted, it answers %q", got)
	}
	if err := l.StopContainer(context.Background(), second, 5); err != nil {
		t.Fatal(err)
	}
	if status := l.status(second); status.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED || status.GetExitCode() != 0 {
		t.Errorf("stopped in order it is %v with code %d", status.GetState(), status.GetExitCode())
	}
}

func TestPortTakenInPodIsRefused(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("twice"))
	l.run(pod, containerConfig("svcplane/echo"))
	id, err := l.CreateContainer(context.Background(), pod, containerConfig("svcplane/echo"), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = l.StartContainer(context.Background(), id)
	if err == nil || !strings.Contains(err.Error(), "8080/TCP in pod default/twice") {
		t.Errorf("the second container on port 8080: %v", err)
	}
	if status := l.status(id); status.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED || status.GetExitCode() != 128 || status.GetReason() != "StartError" {
		t.Errorf("what could not be started is %v with code %d %s, want exited with 128 StartError", status.GetState(), status.GetExitCode(), status.GetReason())
	}
}

func TestRunningPodsAreAdopted(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("survivor"))
	id := l.run(pod, containerConfig("svcplane/echo"))
	ip, shim := l.ip(pod), l.shimProcess()
	l.stop()
	if got := l.get("http://" + ip + ":8080/hostname"); got != "survivor" {
		t.Errorf("while the server is down it answers %q", got)
	}
	l.start()
	if l.shimProcess() != shim {
		t.Error("the shim was replaced")
	}
	if status := l.status(id); status.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("after the restart the container is %v", status.GetState())
	}
	if l.ip(pod) != ip {
		t.Errorf("after the restart the pod has %s, had %s", l.ip(pod), ip)
	}
}

func TestContainersEndWithTheirShim(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("bound"))
	l.run(pod, containerConfig("svcplane/host", "sleep", "2002002"))
	echo := l.run(pod, containerConfig("svcplane/echo"))
	l.sh(echo, "setsid sleep 2002002 >/dev/null 2>&1 &")
	shim := l.shimProcess()
	l.stop() // nobody is there to clean up
	eventually(t, "both processes run", func() bool { return len(processesWith(t, "2002002")) == 2 })
	if err := shim.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no process is left", func() bool { return len(processesWith(t, "2002002")) == 0 })
}

func TestDeadShimMeansExitedContainers(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("orphan"))
	id := l.run(pod, containerConfig("svcplane/echo"))
	if err := l.shimProcess().Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status := l.waitExited(id); status.GetExitCode() != 137 {
		t.Errorf("exit code %d, want 137", status.GetExitCode())
	}
	l.run(pod, containerConfig("svcplane/echo"))
	if got := l.get("http://" + l.ip(pod) + ":8080/hostname"); got != "orphan" {
		t.Errorf("after the restart it answers %q", got)
	}
}
