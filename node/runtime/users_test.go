package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const testBase = 7 << 16

// inUserNamespace has a pod's users begin at testBase.
func inUserNamespace(config *runtimeapi.PodSandboxConfig) *runtimeapi.PodSandboxConfig {
	ids := []*runtimeapi.IDMapping{{HostId: testBase, ContainerId: 0, Length: 1 << 16}}
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ids, Gids: ids}
	return config
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

func TestRootOfAPodWithAUserNamespaceIsNobodyOutside(t *testing.T) {
	if err := usersSupported(); err != nil {
		t.Skip(err)
	}
	l := newLab(t)
	l.importSmall(v1.Config{Env: []string{"PATH=/bin"}})
	pod := l.sandbox(inUserNamespace(podConfig("apart")))
	volume, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.Chmod(filepath.Dir(secret), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := withSeccomp(protected(containerConfig("small:1", "sh", "-c", "id -u; echo named > /dev/stdout; touch /written /data/written; sleep 1000")), runtimeapi.SecurityProfile_RuntimeDefault, "")
	config.WorkingDir = "/made/here"
	config.Mounts = []*runtimeapi.Mount{{HostPath: volume, ContainerPath: "/data"}, {HostPath: secret, ContainerPath: "/secret"}}
	id := l.run(pod, config)
	eventually(t, "it has written", func() bool { return strings.Contains(l.log("apart"), "named") })
	if got := l.log("apart"); got != "0\nnamed\n" {
		t.Errorf("the container wrote %q", got)
	}
	for script, want := range map[string]string{
		"read a b c < /proc/self/uid_map; echo $a $b $c": fmt.Sprint("0 ", testBase, " ", 1<<16),
		"read a b c < /proc/self/gid_map; echo $a $b $c": fmt.Sprint("0 ", testBase, " ", 1<<16),
		"id -u; id -g": "0\n0",
		"set -- $(ls -ldn / /bin/sh /made/here /data /dev/shm | while read a b owner group c; do echo $owner:$group; done); echo $*": "0:0 0:0 0:0 0:0 0:0",
		"cat /secret": "x", // its root owns what root owns in a volume
		"touch /data/more /dev/shm/x /root-file && echo written": "written",
		capabilitySets: "0000000000000000 00000000a80425fb 00000000a80425fb 00000000a80425fb 0000000000000000",
		"read x < /proc/interrupts || echo masked": "masked",
		"v=$(cat /proc/sys/kernel/core_pattern); { echo $v > /proc/sys/kernel/core_pattern; } 2>/dev/null || echo readonly": "readonly",
		"cat /proc/1/comm": "sh",
	} {
		if got, _ := l.try(id, script+" 2>/dev/null"); strings.TrimSpace(got) != want && !strings.HasSuffix(strings.TrimSpace(got), "\n"+want) {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	eventually(t, "the file is there", func() bool { _, err := os.Stat(filepath.Join(volume, "written")); return err == nil })
	if owner := ownerOf(t, filepath.Join(volume, "written")); owner != 0 {
		t.Errorf("on the volume its file belongs to %d, want 0, as without a user namespace", owner)
	}
	if owner := ownerOf(t, filepath.Join(l.store.containerDir(id), "upper", "written")); owner != testBase {
		t.Errorf("in its own layer its file belongs to %d, want %d", owner, testBase)
	}
	held := l.container0(id)
	if owner := ownerOf(t, fmt.Sprintf("/proc/%d", held.Status.Process.PID)); owner != testBase {
		t.Errorf("outside, the process is user %d, want %d", owner, testBase)
	}

	// Another user, and one that the namespace has not.
	config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1500}
	config.Metadata.Name, config.LogPath = "user", "user/0.log"
	user := l.run(pod, config)
	if got := l.sh(user, "id -u; echo hello > /dev/stderr; cat /data/written && echo read"); got != "1500\nread" {
		t.Errorf("another user: %q", got)
	}
	config.Linux.SecurityContext.RunAsUser = &runtimeapi.Int64Value{Value: 1 << 17}
	far, err := l.CreateContainer(context.Background(), pod, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.StartContainer(context.Background(), far); err == nil || !strings.Contains(err.Error(), "user or group 131072 is not in the pod's user namespace") {
		t.Errorf("a user that the namespace has not: %v", err)
	}
	if _, err := l.CreateContainer(context.Background(), pod, containerConfig("svcplane/host", "sleep", "1"), nil); err == nil || !strings.Contains(err.Error(), "hostUsers: false can't be had with svcplane/host") {
		t.Errorf("svcplane/host: %v", err)
	}

	// It goes on, and an exec into it finds its users, after the server comes again.
	l.stop()
	l.start()
	if got := l.sh(id, "read a b c < /proc/self/uid_map; echo $b"); got != fmt.Sprint(testBase) {
		t.Errorf("after a restart an exec has the users from %s on", got)
	}
	again := containerConfig("small:1", "sleep", "1000")
	again.Metadata.Name = "again"
	if got := l.sh(l.run(pod, again), "read a b c < /proc/self/uid_map; echo $b"); got != fmt.Sprint(testBase) {
		t.Errorf("after a restart a container has the users from %s on", got)
	}
}

func (l *lab) container0(id string) containerRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.containers[id].containerRecord
}

// TestAUserNamespaceHasItsOwnNetworkAndMounts: capabilities that a container asks for count there, and nowhere else.
func TestAUserNamespaceHasItsOwnNetworkAndMounts(t *testing.T) {
	if err := usersSupported(); err != nil {
		t.Skip(err)
	}
	l := newLab(t)
	pod := l.sandbox(inUserNamespace(podConfig("caps")))
	config := protected(containerConfig("svcplane/echo"))
	config.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"SYS_ADMIN", "NET_ADMIN"}}
	withPorts(config, `[{"containerPort": 80, "protocol": "TCP"}]`)
	id := l.run(pod, config)
	if got := l.get("http://" + l.ip(pod) + "/hostname"); got != "caps" {
		t.Errorf("the server on port 80 answers %q", got)
	}
	for script, want := range map[string]string{
		"mount -t tmpfs none /mnt && echo mounted":                         "mounted",
		"ip link add va type veth peer name vb && ip link show va | wc -l": "2",
		"cat /etc/shadow 2>&1 | grep -c denied":                            "0",
		"test -r /root/.bashrc || echo hidden":                             "hidden",
		"unshare -m true && echo unshared":                                 "unshared",
		"mknod /tmp/null c 1 3 2>/dev/null || echo refused":                "refused",
		"echo x 2>/dev/null > /proc/sys/kernel/core_pattern || echo no":    "no",
	} {
		if got, _ := l.try(id, script); !strings.HasSuffix(strings.TrimSpace(got), want) {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
}

// TestContainersOfAUserNamespaceShareProcesses: the PID namespace is the user namespace's, and so /proc can be mounted in it.
func TestContainersOfAUserNamespaceShareProcesses(t *testing.T) {
	if err := usersSupported(); err != nil {
		t.Skip(err)
	}
	l := newLab(t)
	l.importSmall(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sleep", "1000"}})
	sandbox := inUserNamespace(podConfig("shared"))
	sandbox.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	pod := l.sandbox(sandbox)
	first, second := containerConfig("small:1"), containerConfig("small:1", "sh", "-c", "sleep 1000")
	second.Metadata.Name = "second"
	l.run(pod, first)
	id := l.run(pod, second)
	eventually(t, "a container sees both programs below the pod's init", func() bool {
		names := l.sh(id, "cat /proc/[0-9]*/comm")
		return strings.HasPrefix(names, "svcplane-init\n") && strings.Count(names, "sleep") == 2
	})
	debug := containerConfig("small:1")
	debug.Metadata.Name = "debug"
	debug.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_TARGET, TargetId: id}
	looking := l.run(pod, debug)
	eventually(t, "a container that looks at another one sees it", func() bool {
		return strings.Count(l.sh(looking, "cat /proc/[0-9]*/comm"), "sleep") == 3
	})
}
