package runtime

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func withSeccomp(config *runtimeapi.ContainerConfig, kind runtimeapi.SecurityProfile_ProfileType, file string) *runtimeapi.ContainerConfig {
	config.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: kind, LocalhostRef: file}
	return config
}

// probe says what holds for the process that runs it, and tries a call that Docker's profile refuses to a container without
// CAP_SYS_ADMIN.
const probe = `while read name rest; do case $name in Seccomp:) echo "$name $rest";; esac; done < /proc/self/status; unshare -U true 2>/dev/null && echo unshared || echo refused`

func TestSeccompIsInForce(t *testing.T) {
	l := newLab(t)
	const unconfined, standard = runtimeapi.SecurityProfile_Unconfined, runtimeapi.SecurityProfile_RuntimeDefault
	script := []string{"sh", "-c", probe + "; sleep 1000"}
	user := &runtimeapi.Int64Value{Value: 65534}
	for name, c := range map[string]struct {
		config *runtimeapi.ContainerConfig
		want   string
	}{
		"none":       {containerConfig("svcplane/host", script...), "Seccomp: 0\nunshared"},
		"unconfined": {withSeccomp(containerConfig("svcplane/host", script...), unconfined, ""), "Seccomp: 0\nunshared"},
		"default":    {withSeccomp(containerConfig("svcplane/host", script...), standard, ""), "Seccomp: 2\nrefused"},
		"user":       {withSeccomp(containerConfig("svcplane/host", script...), standard, ""), "Seccomp: 2\nrefused"},
		"admin":      {withSeccomp(containerConfig("svcplane/host", script...), standard, ""), "Seccomp: 2\nunshared"},
		"privileged": {withSeccomp(containerConfig("svcplane/host", script...), standard, ""), "Seccomp: 0\nunshared"},
	} {
		security := c.config.Linux.SecurityContext
		switch name {
		case "user":
			security.RunAsUser, security.NoNewPrivs = user, true
		case "admin":
			security.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
		case "privileged":
			security.Privileged = true
		}
		id := l.run(l.sandbox(podConfig(name)), c.config)
		eventually(t, name+" has written", func() bool { return strings.HasSuffix(strings.TrimSpace(l.log(name)), "ed") })
		if lines := strings.Split(strings.TrimSpace(l.log(name)), "\n"); lines[0]+"\n"+lines[len(lines)-1] != c.want {
			t.Errorf("%s: the container says %q, want %q", name, lines, c.want)
		}
		if got := l.sh(id, probe); got != c.want {
			t.Errorf("%s: an exec says %q, want %q", name, got, c.want)
		}
	}
	echo := l.run(l.sandbox(podConfig("echo")), withSeccomp(containerConfig("svcplane/echo"), standard, ""))
	if got := l.sh(echo, probe); got != "Seccomp: 2\nrefused" {
		t.Errorf("an exec into svcplane/echo says %q", got)
	}
}

// TestLocalhostProfileStaysWithItsContainer: what is executed in it later has the same, over a restart, though the file changed.
func TestLocalhostProfileStaysWithItsContainer(t *testing.T) {
	l := newLab(t)
	file := filepath.Join(t.TempDir(), "profile.json")
	write := func(errno, action string) {
		profile := `{"defaultAction": "` + action + `", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": ` + errno + `}]}`
		if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const localhost = runtimeapi.SecurityProfile_Localhost
	write("18", "SCMP_ACT_ALLOW") // EXDEV
	pod := l.sandbox(podConfig("local"))
	id := l.run(pod, withSeccomp(containerConfig("svcplane/host", "sh", "-c", "mkdir /tmp/svcplane-test 2>&1; sleep 1000"), localhost, file))
	eventually(t, "it was refused", func() bool { return strings.Contains(l.log("local"), "ross-device link") })
	write("40", "SCMP_ACT_ALLOW") // ELOOP
	l.stop()
	l.start()
	if out, _ := l.try(id, "mkdir /tmp/svcplane-test"); !strings.Contains(out, "ross-device link") {
		t.Errorf("an exec after a restart and a change of the file: %q", out)
	}

	// One that refuses all ends its own container, and no other one.
	write("1", "SCMP_ACT_KILL_PROCESS")
	killed := l.run(l.sandbox(podConfig("killed")), withSeccomp(containerConfig("svcplane/host", "sleep", "1000"), localhost, file))
	if status := l.waitExited(killed); status.GetExitCode() != 128+31 {
		t.Errorf("a container whose exec is a forbidden call ends with %d (%s)", status.GetExitCode(), status.GetMessage())
	}
	write("1", "SCMP_ACT_ERRNO")
	refused, err := l.CreateContainer(context.Background(), pod, withSeccomp(containerConfig("svcplane/host", "sleep", "1000"), localhost, file), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.StartContainer(context.Background(), refused); err == nil || !strings.Contains(err.Error(), "operation not permitted") {
		t.Errorf("a container whose exec is refused: %v", err)
	}
	if l.status(id).GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Error("the first container does not run any more")
	}

	for content, want := range map[string]string{
		"":                                    `cannot load seccomp profile "` + file + `": open`,
		"{":                                   `cannot load seccomp profile "` + file + `"`,
		`{"defaultAction":"SCMP_ACT_NOTIFY"}`: "SCMP_ACT_NOTIFY",
	} {
		os.Remove(file)
		if content != "" {
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, image := range []string{"svcplane/host", "svcplane/echo"} {
			_, err := l.CreateContainer(context.Background(), pod, withSeccomp(containerConfig(image, "sleep", "1000"), localhost, file), nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s with a profile %q: %v", image, content, err)
			}
		}
	}
}
