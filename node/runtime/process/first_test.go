package process

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// startFirst runs a shell as the first process of a PID namespace, in a mount namespace of its own, and gives what it writes.
func startFirst(t *testing.T, c Command, prepare func(int) error) (out string, code int, err error) {
	needRoot(t)
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	var pid int
	err = OnThread(func() error {
		defer theirs.Close()
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return err
		}
		var err error
		pid, err = c.StartFirst([3]uintptr{theirs.Fd(), theirs.Fd(), theirs.Fd()}, false, prepare)
		return err
	})
	if err != nil {
		return "", 0, err
	}
	text, err := io.ReadAll(ours)
	if err != nil {
		t.Fatal(err)
	}
	code, _, err = NewChild(pid).Wait()
	return string(text), code, err
}

func TestFirst(t *testing.T) {
	var prepared int
	uid := uint32(1500)
	for name, c := range map[string]Command{"": {}, "another user": {User: User{UID: &uid}}, "a filter": {Filter: filterOf(t, filterAllows, 0)}} {
		c.Args = []string{"sh", "-c", "echo $$; ls -d /proc/[0-9]*; (sleep 1000 >/dev/null 2>&1 </dev/null &); kill -TERM $$; exit 7"}
		out, code, err := startFirst(t, c, func(pid int) error {
			prepared = pid
			return unix.Kill(pid, 0)
		})
		if err != nil || code != 7 || !strings.HasPrefix(out, "1\n/proc/1\n") || prepared == 0 {
			t.Errorf("%s: %q, exit code %d, %v, prepared %d; want the first process, which SIGTERM does not end", name, out, code, err, prepared)
		}
	}
}

// TestFirstThatIsNotPrepared: the program does not run, and nothing is left.
func TestFirstThatIsNotPrepared(t *testing.T) {
	bad := errors.New("no protection")
	var pid int
	out, _, err := startFirst(t, Command{Args: []string{"echo", "runs"}}, func(p int) error {
		pid = p
		return bad
	})
	if !errors.Is(err, bad) || out != "" || unix.Kill(pid, 0) != unix.ESRCH {
		t.Errorf("%q, %v, the process: %v", out, err, unix.Kill(pid, 0))
	}
}

func TestFirstOfNoProgram(t *testing.T) {
	none := func(int) error { return nil }
	if _, _, err := startFirst(t, Command{Args: []string{"true"}, Dir: "/nonexistent"}, none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that does not exist: %v", err)
	}
	if _, _, err := startFirst(t, Command{Args: []string{"nonexistent"}}, none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that does not exist: %v", err)
	}
}
