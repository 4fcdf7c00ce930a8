package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/remotecommand"

	"svcplane/node/runtime"
)

const insideEnv = "SVCPLANE_NODE_TEST_INSIDE"

// TestMain runs this binary again in namespaces of its own, so that the tests with the real runtime change
// nothing of the machine. The same binary is also the runtime's shim.
func TestMain(m *testing.M) {
	if handled, code := runtime.Main(os.Args); handled {
		os.Exit(code)
	}
	if os.Getenv(insideEnv) != "" || os.Geteuid() != 0 {
		os.Exit(inside(m))
	}
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	command.Args[0] = os.Args[0]
	command.Env = append(os.Environ(), insideEnv+"=1")
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Println("run the tests in namespaces of their own:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func inside(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run()
	}
	must := func(what string, err error) {
		if err != nil {
			panic(fmt.Sprintf("%s: %v", what, err))
		}
	}
	must("make mounts private", unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	must("make /run/netns", os.MkdirAll("/run/netns", 0o755))
	must("cover /run/netns", unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""))
	out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput()
	must(fmt.Sprintf("ip link set lo up: %s", out), err)
	out, err = exec.Command("ip", "address", "add", "192.0.2.10/32", "dev", "lo").CombinedOutput()
	must(fmt.Sprintf("ip address add: %s", out), err)
	return m.Run()
}

// live is a lab over the real runtime.
type live struct {
	*lab
	dir   string
	close func() // ends the runtime, not the pods
	real  *runtime.Runtime
	ca    *authority
}

func newLive(t *testing.T) *live {
	if os.Geteuid() != 0 {
		t.Fatal("run as root, as make test does: the real runtime needs it")
	}
	l := &live{lab: newLab(t), dir: t.TempDir(), ca: newAuthority(t)}
	l.ca.serving(&l.cfg)
	l.cfg.Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.10")}
	l.cfg.ServerAddr = freePort(t)
	t.Cleanup(func() {
		l.stop()
		l.close()
		if err := runtime.Cleanup(context.Background(), l.dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	l.up()
	return l
}

// up starts the runtime and the node, as the server does.
func (l *live) up() {
	l.t.Helper()
	r, err := runtime.New(runtime.Config{DataDir: l.dir, NodeName: "n1", NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, PodCIDR: netip.MustParsePrefix("10.244.0.0/24")})
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	l.close = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("the runtime ended with %v", err)
		}
	})
	l.cfg.Runtime, l.cfg.Images, l.real = r, r, r
	l.start()
}

func echo(p *corev1.Pod) {
	c := &p.Spec.Containers[0]
	c.Image = "svcplane/echo"
	c.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}
	c.ReadinessProbe = every(1, corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}})
}

// host makes the pod's container a shell script on the host's file system.
func host(script string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Image = "svcplane/host"
		p.Spec.Containers[0].Command = []string{"sh", "-c", script}
	}
}

func fetch(t *testing.T, address string) string {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

// run executes a command in the pod the way kubectl does, over the kubelet server.
func (l *live) run(pod string, webSocket bool, command ...string) (string, error) {
	l.t.Helper()
	config := l.ca.client(l.cfg.ServerAddr.String(), l.ca, apiServer)
	q := url.Values{"command": command, "output": {"1"}, "error": {"1"}}
	address, err := url.Parse(config.Host + "/exec/default/" + pod + "/app?" + q.Encode())
	if err != nil {
		l.t.Fatal(err)
	}
	var executor remotecommand.Executor
	if webSocket {
		// What CRI's streaming server speaks; the API server turns newer protocols into SPDY.
		executor, err = remotecommand.NewWebSocketExecutorForProtocols(config, "GET", address.String(), "v4.channel.k8s.io")
	} else {
		executor, err = remotecommand.NewSPDYExecutor(config, "POST", address)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, errOut bytes.Buffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
	return out.String() + errOut.String(), err
}

func TestLiveEchoPodSurvivesARestartAndIsDeleted(t *testing.T) {
	l := newLive(t)
	l.create(pod("toad", echo))
	before := l.wantPod("toad", isReady)
	at := "http://" + before.Status.PodIP + ":8080/hostname"
	if got := fetch(t, at); got != "toad" {
		t.Errorf("the pod says it is %q", got)
	}
	for _, webSocket := range []bool{false, true} {
		out, err := l.run("toad", webSocket, "sh", "-c", "echo $KUBERNETES_SERVICE_HOST; cat /etc/resolv.conf; hostname")
		if err != nil || !strings.Contains(out, "10.96.0.1\n") || !strings.Contains(out, "nameserver 10.96.0.10") || !strings.HasSuffix(out, "toad\n") {
			t.Errorf("web socket %v: inside it is %q, %v", webSocket, out, err)
		}
	}
	l.stop()
	l.close()
	if got := fetch(t, at); got != "toad" {
		t.Errorf("while the node is down the pod says %q", got)
	}
	l.up()
	after := l.wantPod("toad", isReady)
	if b, a := before.Status.ContainerStatuses[0], after.Status.ContainerStatuses[0]; a.ContainerID != b.ContainerID || a.RestartCount != 0 || after.Status.PodIP != before.Status.PodIP {
		t.Errorf("restarted: %+v", a)
	}
	l.remove("toad", 5)
	l.eventually("toad", func() string {
		if l.get("toad") != nil {
			return "is still there"
		}
		return ""
	})
}

func TestLiveProcessWithVolumesAndLogs(t *testing.T) {
	l := newLive(t)
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "settings"}, Data: map[string]string{"colour": "green"}}
	if _, err := l.client.CoreV1().ConfigMaps("default").Create(context.Background(), cm, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	mount := t.TempDir()
	stop := filepath.Join(t.TempDir(), "stop")
	script := "echo up as $NAME; while ! rm " + stop + " 2>/dev/null; do sleep 0.1; done; exit 3"
	l.create(pod("proc", host(script), func(p *corev1.Pod) {
		c := &p.Spec.Containers[0]
		c.Env = []corev1.EnvVar{{Name: "NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}
		c.VolumeMounts = []corev1.VolumeMount{{Name: "settings", MountPath: mount}}
		p.Spec.Volumes = []corev1.Volume{{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}}
		c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "test -s " + mount + "/colour"}}}}
	}))
	l.wantPod("proc", isReady)
	config := l.ca.client(l.cfg.ServerAddr.String(), l.ca, apiServer)
	l.eventually("log", func() string {
		_, body := ask(t, config, "/containerLogs/default/proc/app")
		if body != "up as proc\n" {
			return body
		}
		return ""
	})
	cm.Data["colour"] = "red"
	if _, err := l.client.CoreV1().ConfigMaps("default").Update(context.Background(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.eventually("volume", func() string {
		if out, err := l.run("proc", false, "cat", mount+"/colour"); out != "red" {
			return fmt.Sprintf("holds %q, %v", out, err)
		}
		return ""
	})
	killed := time.Now()
	if _, err := l.run("proc", false, "touch", stop); err != nil {
		t.Fatal(err)
	}
	l.wantPod("proc", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
	if took := time.Since(killed); took > 5*time.Second {
		t.Errorf("restarting took %v", took)
	}
}

func TestLiveTerminationMessageAndPhase(t *testing.T) {
	l := newLive(t)
	l.create(pod("job", host("echo because >/dev/termination-log; exit 4"), func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
	}))
	p := l.wantPod("job", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	end := p.Status.ContainerStatuses[0].State.Terminated
	if end == nil || end.ExitCode != 4 || end.Message != "because\n" || end.Reason != "Error" {
		t.Errorf("ended as %+v", end)
	}
}

func TestLiveContainersShareMemory(t *testing.T) {
	l := newLive(t)
	mount := t.TempDir()
	l.create(pod("pair", host("echo shared >"+mount+"/file; while :; do sleep 1; done"), func(p *corev1.Pod) {
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "both", MountPath: mount}}
		reader := *p.Spec.Containers[0].DeepCopy()
		reader.Name = "reader"
		reader.Command = []string{"sh", "-c", "while ! cat " + mount + "/file; do sleep 0.1; done; while :; do sleep 1; done"}
		p.Spec.Containers = append(p.Spec.Containers, reader)
		p.Spec.Volumes = []corev1.Volume{{Name: "both", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}}
	}))
	l.wantPod("pair", isReady)
	config := l.ca.client(l.cfg.ServerAddr.String(), l.ca, apiServer)
	l.eventually("log", func() string {
		if _, body := ask(t, config, "/containerLogs/default/pair/reader?stream=Stdout"); body != "shared\n" {
			return body
		}
		return ""
	})
	if out, err := l.run("pair", false, "stat", "-f", "-c", "%T", mount); err != nil || out != "tmpfs\n" {
		t.Errorf("the volume is %q, %v", out, err)
	}
	l.remove("pair", 2)
	l.eventually("pair", func() string {
		if l.get("pair") != nil {
			return "is still there"
		}
		return ""
	})
	if table, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(table), l.lab.dir) {
		t.Errorf("something is still mounted, %v", err)
	}
}
