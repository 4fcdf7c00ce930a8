package process

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// protect makes this process one that the kernel spares, as OOMScoreAdjust= of a systemd unit does, until the test ends.
// To go below 0 takes CAP_SYS_RESOURCE, so the ordinary process of these tests has 500.
func protect(t *testing.T, to int) {
	t.Helper()
	before, err := readScore()
	if err != nil {
		t.Fatal(err)
	}
	if before > to {
		t.Skipf("this machine's processes begin with an oom_score_adj of %d", before)
	}
	if err := writeScore(to); err != nil {
		t.Fatal(err)
	}
	score.ordinary = 500
	t.Cleanup(func() {
		score.ordinary = 0
		if err := writeScore(before); err != nil {
			t.Error(err)
		}
	})
}

// scoreOfChild is what a command that Start runs finds as its own.
func scoreOfChild(t *testing.T) string {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	defer in.Close()
	var pid int
	err = OnThread(func() error {
		c := Command{Args: []string{"/bin/cat", scoreFile}}
		pid, err = c.Start([3]uintptr{out.Fd(), in.Fd(), in.Fd()}, false)
		return err
	})
	if err != nil {
		t.Error(err)
		return ""
	}
	if code, _, err := NewChild(pid).Wait(); code != 0 || err != nil {
		t.Errorf("cat ended with %d, %v", code, err)
	}
	buf := make([]byte, 64)
	n, err := unix.Read(int(out.Fd()), buf)
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(buf[:max(n, 0)]))
}

// TestCommandsAreNotProtected: what the server runs in pods is not spared when memory is short, and the server still is.
func TestCommandsAreNotProtected(t *testing.T) {
	protect(t, 100)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got := scoreOfChild(t); got != "500" {
				t.Errorf("a command begins with an oom_score_adj of %q", got)
			}
		})
	}
	all.Wait()
	if own, err := readScore(); own != 100 || err != nil {
		t.Errorf("the server has %d now, %v", own, err)
	}
}

func TestCommandsKeepWhatIsAbove(t *testing.T) {
	protect(t, 700)
	if got := scoreOfChild(t); got != "700" {
		t.Errorf("a command begins with %q, want 700", got)
	}
}

func TestUnprotect(t *testing.T) {
	for _, tt := range []struct{ own, want int }{{100, 500}, {500, 500}, {700, 700}} {
		protect(t, tt.own)
		if err := Unprotect(); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("cat", scoreFile).Output()
		if got := strings.TrimSpace(string(out)); got != strconv.Itoa(tt.want) || err != nil {
			t.Errorf("with %d what is forked has %q, want %d (%v)", tt.own, got, tt.want, err)
		}
	}
}
