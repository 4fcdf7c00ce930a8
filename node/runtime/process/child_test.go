package process

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func startChild(t *testing.T, args ...string) *Child {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var pid int
	err = OnThread(func() error {
		var err error
		pid, err = Command{Args: args}.Start([3]uintptr{null.Fd(), null.Fd(), null.Fd()}, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return NewChild(pid)
}

func TestChildEndsWithItsCode(t *testing.T) {
	for _, c := range []struct {
		script string
		code   int
		by     unix.Signal
	}{{"exit 0", 0, 0}, {"exit 200", 200, 0}, {"kill -USR1 $$", 138, unix.SIGUSR1}} {
		child := startChild(t, "sh", "-c", c.script)
		if code, by, err := child.Wait(); err != nil || code != c.code || by != c.by {
			t.Errorf("%s: %d %v %v, want %d %v", c.script, code, by, err, c.code, c.by)
		}
		child.Signal(unix.SIGKILL) // must reach nobody
	}
}

func TestKilledChildTakesItsGroupAlong(t *testing.T) {
	child := startChild(t, "sh", "-c", "sleep 1000 & sleep 1000")
	child.Signal(unix.SIGKILL)
	if code, by, err := child.Wait(); err != nil || code != 137 || by != unix.SIGKILL {
		t.Errorf("it ended with %d %v %v", code, by, err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for unix.Kill(-child.PID(), 0) == nil {
		if time.Now().After(deadline) {
			t.Fatal("its process group is still there")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
