package process

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("run as root, as make test does: needs it to make namespaces")
	}
}

func namespace(t *testing.T, path string) string {
	t.Helper()
	link, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestOnThreadLeavesTheProcessAlone(t *testing.T) {
	needRoot(t)
	before := namespace(t, "/proc/self/ns/uts")
	var threads sync.WaitGroup
	for range 20 {
		threads.Go(func() {
			err := OnThread(func() error {
				if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
					return err
				}
				return unix.Sethostname([]byte("elsewhere"))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	threads.Wait()
	tasks, err := filepath.Glob("/proc/self/task/*/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, task := range append(tasks, "/proc/self/ns/uts") {
		now, err := os.Readlink(task)
		for err == nil && now != before && time.Now().Before(deadline) { // a thread that is on its way out
			time.Sleep(time.Millisecond)
			now, err = os.Readlink(task)
		}
		if err == nil && now != before {
			t.Errorf("%s is still in %s, the process was in %s", task, now, before)
		}
	}
}

func TestIDIsNotFooledByAPid(t *testing.T) {
	command := exec.Command("sleep", "1000")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := Identify(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !id.Alive() {
		t.Error("a running process is not alive")
	}
	for what, other := range map[string]ID{
		"another start time": {PID: id.PID, Start: id.Start + 1, Boot: id.Boot},
		"another boot":       {PID: id.PID, Start: id.Start, Boot: "other"},
	} {
		if err := other.Signal(unix.SIGKILL); !errors.Is(err, ErrGone) {
			t.Errorf("signalling the pid with %s: %v", what, err)
		}
	}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := id.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a process that runs: %v", err)
	}
	if err := id.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := id.Wait(context.Background()); err != nil {
		t.Errorf("waiting for a process that was killed: %v", err)
	}
	if id.Alive() {
		t.Error("a zombie is alive")
	}
	command.Wait()
	if err := id.Signal(unix.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("signalling a process that is gone: %v", err)
	}
}

// newInit makes an init with PID and mount namespaces of its own.
func newInit(t *testing.T) int {
	t.Helper()
	var pid int
	err := OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return err
		}
		var err error
		pid, err = ForkInit(InitOptions{NewPID: true, MountProc: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killChild(pid) })
	return pid
}

// runIn runs a command in the namespaces of an init and gives what it wrote.
func runIn(t *testing.T, init int, command Command) string {
	t.Helper()
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	var pid int
	err = OnThread(func() error {
		defer theirs.Close()
		if err := NamespacesOf(init).Enter(); err != nil {
			return err
		}
		var err error
		pid, err = command.Start([3]uintptr{theirs.Fd(), theirs.Fd(), theirs.Fd()}, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(ours)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestInitIsPID1AndReaps(t *testing.T) {
	needRoot(t)
	init := newInit(t)
	if got := runIn(t, init, Command{Args: []string{"cat", "/proc/1/comm"}}); got != "svcplane-init" {
		t.Errorf("PID 1 is %q", got)
	}
	if fds, err := os.ReadDir("/proc/" + strconv.Itoa(init) + "/fd"); err != nil || len(fds) != 1 { // the pidfd of its parent
		t.Errorf("the init has %d files open (%v), which keeps sockets and logs from closing", len(fds), err)
	}
	runIn(t, init, Command{Args: []string{"sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.05 &) ; done"}})
	deadline := time.Now().Add(10 * time.Second)
	for {
		states := runIn(t, init, Command{Args: []string{"sh", "-c", "grep -h State /proc/[0-9]*/status; ls -d /proc/[0-9]* | wc -l"}})
		if !strings.Contains(states, "Z") && !strings.Contains(runIn(t, init, Command{Args: []string{"sh", "-c", "cat /proc/[0-9]*/comm"}}), "sleep") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("orphans are not reaped: %s", states)
		}
		time.Sleep(20 * time.Millisecond)
	}
	// Signals from inside do not end it, whatever a user of the container tries.
	runIn(t, init, Command{Args: []string{"sh", "-c", "for s in TERM INT HUP USR1 SEGV KILL; do kill -$s 1; done; true"}})
	if id, err := Identify(init); err != nil || !id.Alive() {
		t.Errorf("the init was ended from inside: %v", err)
	}
}

func TestKilledInitEndsItsNamespace(t *testing.T) {
	needRoot(t)
	init := newInit(t)
	var pid int
	err := OnThread(func() error {
		if err := NamespacesOf(init).Enter(); err != nil {
			return err
		}
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer null.Close()
		pid, err = Command{Args: []string{"sleep", "1000"}}.Start([3]uintptr{null.Fd(), null.Fd(), null.Fd()}, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(init, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var end unix.WaitStatus
	if _, err := unix.Wait4(pid, &end, 0, nil); err != nil || end.Signal() != unix.SIGKILL {
		t.Errorf("the process ended with %v %v, want SIGKILL", end, err)
	}
}

func TestInitHoldsNoMemoryOfOurs(t *testing.T) {
	needRoot(t)
	ballast := make([]byte, 64<<20)
	for i := range ballast {
		ballast[i] = byte(i)
	}
	init := newInit(t)
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(init) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if kb, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kb), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			if n > 1024 {
				t.Errorf("the init holds %d kB of our %d MB", n, len(ballast)>>20)
			}
		}
	}
	if ballast[1000] != byte(1000%256) {
		t.Error("our own memory was changed")
	}
}

func TestCommandErrorsSayWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		command Command
		want    string
	}{
		{Command{}, "the command is empty"},
		{Command{Args: []string{"no-such-program"}}, `"no-such-program": executable file not found in $PATH (` + defaultPath + ")"},
		{Command{Args: []string{"/etc/passwd"}}, "permission denied"},
		{Command{Args: []string{"/nonexistent"}}, "no such file"},
		{Command{Args: []string{"true"}, Dir: "/nonexistent"}, `in directory "/nonexistent"`},
		{Command{Args: []string{"true"}, User: User{Name: "nobody-of-that-name"}}, "set runAsUser to a number"},
		{Command{Args: []string{"true"}, User: User{Name: "0:no-such-group"}}, "set runAsGroup to a number"},
	} {
		err := OnThread(func() error {
			pid, err := c.command.Start([3]uintptr{0, 1, 2}, false)
			if err == nil {
				unix.Wait4(pid, nil, 0, nil)
			}
			return err
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.command, err, c.want)
		}
	}
	if _, err := lookPath("no-such-program", "/", []string{"PATH=/bin"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing program is %v", err)
	}
}
