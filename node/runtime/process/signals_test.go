package process

import (
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// 32 is no signal that the Go runtime handles, and some supervisors leave it ignored.
func TestDefaultSignalsIgnoresNone(t *testing.T) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	action := sigaction{1} // SIG_IGN
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, 32, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	if got := ignored(t); got != "0000000080000000" {
		t.Fatalf("before: SigIgn is %s", got)
	}
	DefaultSignals()
	if got := ignored(t); got != "0000000000000000" {
		t.Errorf("SigIgn is %s", got)
	}
}

// ignored is what a process that this one starts ignores.
func ignored(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("grep", "SigIgn", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(out), "SigIgn:"))
}
