package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// lanNamespace is a machine beside the node: 192.0.2.99 where the node is 192.0.2.10.
const lanNamespace = "lan"

const insideEnv = "SVCPLANE_RUNTIME_TEST_INSIDE"

// TestMain runs this binary again in network, mount, IPC and UTS namespaces of its own, so that tests use the
// real kernel and change nothing of the machine. The same binary also is the shim.
func TestMain(m *testing.M) {
	if handled, code := Main(os.Args); handled {
		os.Exit(code)
	}
	if dir := os.Getenv(serverEnv); dir != "" {
		os.Exit(serveForAdoption(dir))
	}
	if os.Getenv(insideEnv) != "" {
		os.Exit(inside(m))
	}
	if os.Geteuid() != 0 {
		fmt.Println("skipping all tests: they need root, to make namespaces")
		os.Exit(0)
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
	must := func(what string, err error) {
		if err != nil {
			panic(fmt.Sprintf("%s: %v", what, err))
		}
	}
	must("make mounts private", unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	must("make /run/netns", os.MkdirAll("/run/netns", 0o755))
	must("cover /run/netns", unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""))
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"netns", "add", lanNamespace},
		{"link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", lanNamespace},
		{"address", "add", "192.0.2.10/24", "dev", "lan"},
		{"link", "set", "lan", "up"},
		{"-n", lanNamespace, "address", "add", "192.0.2.99/24", "dev", "eth0"},
		{"-n", lanNamespace, "link", "set", "eth0", "up"},
	} {
		out, err := exec.Command("ip", args...).CombinedOutput()
		must(fmt.Sprintf("ip %v: %s", args, out), err)
	}
	return m.Run()
}
