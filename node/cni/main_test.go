package cni

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const insideEnv = "SVCPLANE_CNI_TEST_INSIDE"

// TestMain runs this binary again in network and mount namespaces of its own. The same binary also is the plugin.
func TestMain(m *testing.M) {
	if handled, code := Main(os.Args); handled {
		os.Exit(code)
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
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := command.Run(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func inside(m *testing.M) int {
	for _, err := range []error{
		unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
		os.MkdirAll("/run/netns", 0o755),
		unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""),
		exec.Command("ip", "link", "set", "lo", "up").Run(),
	} {
		if err != nil {
			panic(err)
		}
	}
	return m.Run()
}
