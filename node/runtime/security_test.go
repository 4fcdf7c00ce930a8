package runtime

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// capabilitySets prints the five sets: inheritable, permitted, effective, bounding, ambient.
const capabilitySets = `while read name value; do case $name in Cap???:) printf "%s " $value;; esac; done < /proc/self/status`

// TestCapabilitiesAreThoseOfOtherRuntimes: what is inheritable or ambient is nobody's, and a user who is not root has none.
func TestCapabilitiesAreThoseOfOtherRuntimes(t *testing.T) {
	const none, standard = "0000000000000000", "00000000a80425fb"
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(own), "CapBnd:\t")
	all := rest[:16]
	l := newLab(t)
	l.importSmall(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sleep", "1000"}})
	pod := l.sandbox(podConfig("capable"))
	for name, c := range map[string]struct {
		uid        int64
		add, drop  []string
		privileged bool
		want       []string
	}{
		"root":               {want: []string{none, standard, standard, standard, none}},
		"user":               {uid: 1500, want: []string{none, none, none, standard, none}},
		"root-without":       {drop: []string{"ALL"}, want: []string{none, none, none, none, none}},
		"root-with-one":      {drop: []string{"all"}, add: []string{"NET_BIND_SERVICE"}, want: []string{none, "0000000000000400", "0000000000000400", "0000000000000400", none}},
		"user-with-one":      {uid: 1500, drop: []string{"ALL"}, add: []string{"CAP_NET_ADMIN"}, want: []string{none, none, none, "0000000000001000", none}},
		"root-with-all":      {add: []string{"ALL"}, want: []string{none, all, all, all, none}},
		"root-with-all-less": {add: []string{"ALL"}, drop: []string{"ALL"}, want: []string{none, none, none, none, none}},
		"privileged":         {privileged: true, want: []string{none, all, all, all, none}},
		"privileged-user":    {uid: 1500, privileged: true, want: []string{none, none, none, all, none}},
	} {
		config := containerConfig("small:1")
		config.Metadata.Name = name
		security := config.Linux.SecurityContext
		security.RunAsUser, security.Privileged = &runtimeapi.Int64Value{Value: c.uid}, c.privileged
		security.Capabilities = &runtimeapi.Capability{AddCapabilities: c.add, DropCapabilities: c.drop}
		for _, kind := range []runtimeapi.SecurityProfile_ProfileType{runtimeapi.SecurityProfile_Unconfined, runtimeapi.SecurityProfile_RuntimeDefault} {
			id := l.run(pod, withSeccomp(config, kind, ""))
			if got := strings.Fields(l.sh(id, capabilitySets)); !slices.Equal(got, c.want) {
				t.Errorf("%s, seccomp %v: %v, want %v", name, kind, got, c.want)
			}
		}
	}
}

func TestGroupsOfTheImageAreLeftOutWherePolicyIsStrict(t *testing.T) {
	l := newLab(t)
	l.importSmall(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sh", "-c", "id -u; id -G; sleep 1000"}, User: "app"})
	for name, c := range map[string]struct {
		policy runtimeapi.SupplementalGroupsPolicy
		want   string
	}{
		"merge":  {runtimeapi.SupplementalGroupsPolicy_Merge, "1600 1800 4000"},
		"strict": {runtimeapi.SupplementalGroupsPolicy_Strict, "1600 4000"},
	} {
		config := containerConfig("small:1")
		config.Linux.SecurityContext.SupplementalGroupsPolicy = c.policy
		config.Linux.SecurityContext.SupplementalGroups = []int64{4000}
		id := l.run(l.sandbox(podConfig(name)), config)
		eventually(t, name+" has written", func() bool { return strings.Contains(l.log(name), "4000") })
		if got := l.log(name); got != "1500\n"+c.want+"\n" {
			t.Errorf("%s: the container is %q", name, got)
		}
		if got := l.sh(id, "id -G"); got != c.want {
			t.Errorf("%s: an exec has the groups %s, want %s", name, got, c.want)
		}
		user := l.status(id).GetUser().GetLinux()
		groups := map[string][]int64{"merge": {1600, 1800, 4000}, "strict": {1600, 4000}}[name]
		if user.GetUid() != 1500 || user.GetGid() != 1600 || !slices.Equal(user.GetSupplementalGroups(), groups) {
			t.Errorf("%s: the status says %v", name, user)
		}
	}
	l.stop()
	l.start()
	list, err := l.ListContainers(t.Context(), nil)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d containers, %v", len(list), err)
	}
	for _, c := range list {
		if user := l.status(c.Id).GetUser().GetLinux(); user.GetUid() != 1500 {
			t.Errorf("after a restart the status says %v", user)
		}
	}
}

func TestAnImageSeesTheDevicesOfOtherRuntimes(t *testing.T) {
	l := newLab(t)
	l.importSmall(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sleep", "1000"}})
	pod := l.sandbox(podConfig("devices"))
	id := l.run(pod, protected(containerConfig("small:1")))
	const want = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
	if got := strings.Join(strings.Fields(l.sh(id, "ls /dev")), " "); got != want {
		t.Errorf("/dev has %s, want %s", got, want)
	}
	for what, script := range map[string]string{
		"write to /sys":        "touch /sys/kernel/mm/ksm/run && echo 0 > /sys/kernel/mm/ksm/run",
		"write a setting":      "v=$(cat /proc/sys/kernel/core_pattern) && echo $v > /proc/sys/kernel/core_pattern",
		"trigger sysrq":        "echo h > /proc/sysrq-trigger",
		"read kernel memory":   "cat /proc/kcore | { read -r x && test -n \"$x\"; }",
		"read interrupts":      "read x < /proc/interrupts && test -n \"$x\"",
		"look at the keys":     "read x < /proc/keys && test -n \"$x\"",
		"list the firmware":    "test -n \"$(ls /sys/firmware)\"",
		"see the host's disks": "ls /dev/vda /dev/sda /dev/kmsg",
	} {
		if out, ok := l.try(id, script); ok {
			t.Errorf("a container can %s: %s", what, out)
		}
	}

	config := containerConfig("small:1") // the kubelet masks nothing here
	config.Metadata.Name = "privileged"
	config.Linux.SecurityContext.Privileged = true
	privileged := l.run(pod, config)
	if got := l.sh(privileged, "while read a where b flags c; do case $where in /sys) echo $flags;; esac; done < /proc/mounts"); !strings.HasPrefix(got, "rw,") {
		t.Errorf("/sys of a privileged container is mounted %s", got)
	}
	for _, device := range hostDeviceNodes(t) {
		if out, ok := l.try(privileged, "test -b "+device+" || test -c "+device); !ok {
			t.Errorf("a privileged container has no %s: %s", device, out)
		}
	}
	l.sh(privileged, "read x < /dev/urandom; v=$(cat /proc/sys/kernel/core_pattern) && echo \"$v\" > /proc/sys/kernel/core_pattern")
}

// hostDeviceNodes lists some of this machine's devices.
func hostDeviceNodes(t *testing.T) []string {
	var list []string
	err := filepath.WalkDir("/dev", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.Contains([]string{"/dev/pts", "/dev/shm", "/dev/mqueue"}, path):
			return fs.SkipDir
		case entry.Type()&fs.ModeDevice != 0 && path != "/dev/console" && len(list) < 20:
			list = append(list, path)
		}
		return nil
	})
	if err != nil || len(list) == 0 {
		t.Fatalf("%d devices, %v", len(list), err)
	}
	return list
}
