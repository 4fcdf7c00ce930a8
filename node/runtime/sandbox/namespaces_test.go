package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/process"
)

func TestNamespacesAreThePodsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("run as root, as make test does: needs it to make namespaces")
	}
	n, err := NewNamespaces(Options{Hostname: "pod-x"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	err = process.OnThread(func() error {
		if err := n.Paths().Enter(); err != nil {
			return err
		}
		var name unix.Utsname
		if err := unix.Uname(&name); err != nil {
			return err
		}
		if got := unix.ByteSliceToString(name.Nodename[:]); got != "pod-x" {
			t.Errorf("the pod's hostname is %q", got)
		}
		return SetPodSysctls(map[string]string{"net.ipv4.ip_unprivileged_port_start": "77"})
	})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(ours)) == "77" {
		t.Errorf("a pod's sysctl changed the host's: %q %v", ours, err)
	}
	if err := SetPodSysctls(map[string]string{"kernel.panic": "1"}); err == nil {
		t.Error("a sysctl of the whole machine is accepted")
	}
}

func TestBoundNamespaceOutlivesItsFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("run as root, as make test does: needs it to make namespaces")
	}
	n, err := NewNamespaces(Options{Hostname: "kept"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "net")
	if err := bindNamespace(n.Net, path); err != nil {
		t.Fatal(err)
	}
	if same, err := sameFile(n.Net, path); err != nil || !same {
		t.Errorf("the mount is not the namespace: %v", err)
	}
	n.Close()
	if err := process.InNet(path, func() error { return nil }); err != nil {
		t.Errorf("enter it by its path: %v", err)
	}
	if err := unbindNamespace(path); err != nil {
		t.Fatal(err)
	}
	if err := unbindNamespace(path); err != nil {
		t.Errorf("removing it a second time: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenNamespaces(process.Namespaces{Net: path, UTS: path, IPC: path}); err == nil || !strings.Contains(err.Error(), "not a namespace") {
		t.Errorf("the empty file that a lost mount leaves: %v", err)
	}
}
