package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/securitycontext"
)

// closedTo refuses the host's root to all pods, as --host-images=off does.
func closedTo(string) error { return errors.New("this server runs with --host-images=off") }

// protected is a container as the node describes it to the runtime.
func protected(config *runtimeapi.ContainerConfig) *runtimeapi.ContainerConfig {
	config.Linux.SecurityContext.MaskedPaths = securitycontext.ConvertToRuntimeMaskedPaths(nil)
	config.Linux.SecurityContext.ReadonlyPaths = securitycontext.ConvertToRuntimeReadonlyPaths(nil)
	return config
}

// rewrite writes to a file what is there: a machine that lets it happen is not harmed.
func rewrite(path string) string { return fmt.Sprintf(`v=$(cat %[1]s) && echo "$v" > %[1]s`, path) }

// try runs a script in a container and gives all that it wrote, and whether it ended with 0.
func (l *lab) try(id, script string) (string, bool) {
	l.t.Helper()
	out, errOut, err := l.ExecSync(context.Background(), id, []string{"sh", "-c", script}, 20*time.Second)
	return strings.TrimSpace(string(out) + string(errOut)), err == nil
}

func TestExecWithoutHostAccessLeavesTheHostAlone(t *testing.T) {
	l := newLab(t)
	l.cfg.HostAccess = closedTo
	socket := filepath.Join(l.dir, "host.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	victim := exec.Command("sleep", "1000")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer victim.Process.Kill()
	t.Cleanup(func() {
		for _, dir := range []string{"/etc", "/usr", "/usr/bin"} {
			os.Remove(dir + "/svcplane-test")
		}
	})
	pod := l.sandbox(podConfig("closed"))
	id := l.run(pod, protected(containerConfig("svcplane/echo")))
	for what, script := range map[string]string{
		"read the host's passwords":        "cat /etc/shadow",
		"write to the host's /etc":         "echo x > /etc/svcplane-test",
		"write to the host's programs":     "echo x > /usr/bin/svcplane-test",
		"make programs writable again":     "mount -o remount,rw /usr && touch /usr/svcplane-test",
		"look into the data directory":     "ls " + l.dir,
		"talk to a socket of the host":     "curl -sS --max-time 5 --unix-socket " + socket + " http://x/",
		"go through the init's root":       "ls /proc/1/root/ | grep .",
		"mount":                            "mount -t tmpfs none /tmp",
		"open a disk it makes a node of":   "mknod /tmp/disk b 8 0 && head -c1 /tmp/disk",
		"open memory it makes a node of":   "mknod /tmp/mem c 1 1 && head -c1 /tmp/mem",
		"open null it makes a node of":     "mknod /dev/shm/null c 1 3 && cat /dev/shm/null",
		"enter the host's network":         "nsenter --net=/proc/1/ns/net --mount=/proc/1/ns/mnt true",
		"see or signal a host's process":   fmt.Sprintf("kill -0 %d", victim.Process.Pid),
		"write a kernel setting":           rewrite("/proc/sys/kernel/modprobe"),
		"write a setting of another name":  rewrite("/proc/sys/kernel/core_pattern"),
		"trigger sysrq":                    "echo h > /proc/sysrq-trigger",
		"read kernel memory":               "head -c1 /proc/kcore | grep .",
		"escape by a cgroup's agent":       "mkdir /tmp/cg && mount -t cgroup -o rdma cgroup /tmp/cg",
		"escape by a cgroup in namespaces": "unshare -UrmC sh -c 'mount -t cgroup -o memory cgroup /mnt && echo 1 > /mnt/release_agent'",
		"uncover what is hidden":           "unshare -Urm sh -c 'umount /proc/kcore || mount -o remount,rw,bind /usr && touch /usr/svcplane-test'",
		"load a module":                    "modprobe dummy",
		"set the clock":                    "date -s @0",
		"change the pod's addresses":       "ip link set lo down",
	} {
		if out, ok := l.try(id, script); ok {
			t.Errorf("an exec can %s: %s: %s", what, script, out)
		}
	}
	seen := strings.Fields(l.sh(id, "for p in /proc/[0-9]*; do read name < $p/comm; echo $name; done"))
	slices.Sort(seen)
	if want := []string{"sh", "svcplane-init"}; !slices.Equal(seen, want) {
		t.Errorf("an exec sees the processes %v, want %v", seen, want)
	}
	if caps := l.sh(id, "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status"); caps != "CapEff:\t00000000a80425fb\nNoNewPrivs:\t1" {
		t.Errorf("an exec has %q, want Docker's default capabilities and no_new_privs", caps)
	}
}

func TestExecWithoutHostAccessServesALab(t *testing.T) {
	l := newLab(t)
	l.cfg.HostAccess = closedTo
	pod := l.sandbox(podConfig("lab"))
	volume := t.TempDir()
	config := protected(containerConfig("svcplane/echo"))
	config.WorkingDir = "/work/here"
	config.Mounts = []*runtimeapi.Mount{
		{HostPath: volume, ContainerPath: "/usr/share/nginx/html"},
		{HostPath: volume, ContainerPath: "/etc/nginx/conf.d", Readonly: true},
	}
	id := l.run(pod, config)
	for script, want := range map[string]string{
		"curl -sS http://localhost:8080/hostname": "lab",
		"id -un":                           "root",
		"pwd":                              "/work/here",
		"grep nameserver /etc/resolv.conf": "nameserver 10.96.0.10",
		"echo hi > /tmp/x && cat /tmp/x":   "hi",
		"echo hi > /usr/share/nginx/html/x && cat /etc/nginx/conf.d/x":  "hi",
		"touch /usr/share/y 2>/dev/null || echo read-only":              "read-only",
		"ls /etc/ssl/certs >/dev/null && echo there":                    "there",
		"echo > /dev/null && head -c1 /dev/urandom | wc -c":             "1",
		"cd /tmp && mkdir a && tar cf a.tar a && tar tf /var/tmp/a.tar": "a/",
	} {
		if got, _ := l.try(id, script); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(volume, "x")); err != nil || string(raw) != "hi\n" {
		t.Errorf("the volume holds %q, %v", raw, err)
	}
	if _, err := os.Stat("/usr/share/nginx/html/x"); err == nil {
		t.Error("the mount point is on the host")
	}
}

func TestViewHidesADataDirectoryAmongThePrograms(t *testing.T) {
	l := newLab(t)
	l.cfg.HostAccess = closedTo
	dir, err := os.MkdirTemp("/usr/local", "svcplane-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	pod := l.sandbox(podConfig("hidden"))
	before := l.run(pod, protected(containerConfig("svcplane/echo")))
	if out := l.sh(before, "ls "+dir); out != "secret" {
		t.Fatalf("without Hide it shows %q", out)
	}
	l.cfg.Hide = []string{dir}
	other := l.sandbox(podConfig("hidden-2"))
	after := l.run(other, protected(containerConfig("svcplane/echo")))
	if out := l.sh(after, "ls -A "+dir); out != "" {
		t.Errorf("a hidden directory shows %q", out)
	}
	if out, ok := l.try(after, "umount "+dir); ok {
		t.Errorf("it can be uncovered: %s", out)
	}
}

func TestHostAccessIsAskedAtEachExec(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("turning"))
	id := l.run(pod, protected(containerConfig("svcplane/echo")))
	host := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(host, []byte("of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := l.sh(id, "cat "+host); out != "of the host" {
		t.Errorf("with access an exec reads %q", out)
	}
	l.cfg.HostAccess = closedTo
	if out, ok := l.try(id, "cat "+host); ok {
		t.Errorf("without access an exec reads %q", out)
	}
	l.cfg.HostAccess = nil
	if out := l.sh(id, "cat "+host); out != "of the host" {
		t.Errorf("with access again an exec reads %q", out)
	}
}

func TestHostImageNeedsHostAccess(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("refused"))
	running := l.run(pod, containerConfig("svcplane/host", "sleep", "1000"))
	created, err := l.CreateContainer(context.Background(), pod, containerConfig("svcplane/host", "sleep", "1000"), nil)
	if err != nil {
		t.Fatal(err)
	}
	l.cfg.HostAccess = closedTo
	if _, err := l.images.Alias("nginx", "svcplane/host"); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "--host-images=off") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, ref := range []string{"svcplane/host", "docker.io/svcplane/host:latest", "svcplane/host:1", "svcplane/host@sha256:" + strings.Repeat("0", 64), "nginx", "docker.io/library/nginx:latest"} {
		_, err := l.CreateContainer(context.Background(), pod, containerConfig(ref, "true"), nil)
		refused("create a container of "+ref, err)
	}
	refused("start a container that was created before", l.StartContainer(context.Background(), created))
	_, _, err = l.ExecSync(context.Background(), running, []string{"true"}, time.Minute)
	refused("exec in one that runs", err)
	_, err = l.Exec(context.Background(), &runtimeapi.ExecRequest{ContainerId: running, Cmd: []string{"true"}, Stdout: true})
	refused("kubectl exec in one that runs", err)
	_, err = l.Attach(context.Background(), &runtimeapi.AttachRequest{ContainerId: running, Stdout: true})
	refused("kubectl attach to one that runs", err)
	debug := containerConfig("svcplane/echo")
	debug.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_TARGET, TargetId: running}
	id, err := l.CreateContainer(context.Background(), pod, debug, nil)
	if err != nil {
		t.Fatal(err)
	}
	refused("share its processes", l.StartContainer(context.Background(), id))
}

func TestHostContainersProcessesAreNoWayAround(t *testing.T) {
	l := newLab(t)
	shared := podConfig("shared")
	shared.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	pod := l.sandbox(shared)
	l.run(pod, containerConfig("svcplane/host", "sleep", "1000"))
	echo := protected(containerConfig("svcplane/echo"))
	echo.Metadata.Name = "beside"
	id := l.run(pod, echo)
	l.cfg.HostAccess = closedTo
	if out, ok := l.try(id, "for p in /proc/[0-9]*; do cat $p/root/etc/shadow && exit; done; false"); ok {
		t.Errorf("through a host container's processes an exec reads the host's files: %.40s", out)
	}
}

func TestImageContainerLeavesTheHostAlone(t *testing.T) {
	l := newLab(t)
	l.importSmall(v1.Config{})
	pod := l.sandbox(podConfig("image"))
	volume := t.TempDir()
	config := protected(containerConfig("small:1", "/bin/sleep", "1000"))
	config.Mounts = []*runtimeapi.Mount{{HostPath: volume, ContainerPath: "/volume"}}
	id := l.run(pod, config)
	for _, dir := range []string{volume, filepath.Join(l.dir, "containers", id, "upper")} {
		if out, err := exec.Command("mknod", filepath.Join(dir, "null"), "c", "1", "3").CombinedOutput(); err != nil {
			t.Fatalf("mknod: %v: %s", err, out)
		}
	}
	for what, script := range map[string]string{
		"open a device in a volume":    "cat /volume/null",
		"open a device in its root":    "cat /null",
		"write a kernel setting":       rewrite("/proc/sys/kernel/modprobe"),
		"trigger sysrq":                "echo h > /proc/sysrq-trigger",
		"list the firmware's settings": "ls /sys/firmware | cat > /tmp/x; read line < /tmp/x",
	} {
		if out, ok := l.try(id, script); ok {
			t.Errorf("an image's container can %s: %s", what, out)
		}
	}
	if out, ok := l.try(id, "cat /dev/null && echo > /dev/null"); !ok {
		t.Errorf("/dev/null does not work: %s", out)
	}
}
