package rootfs

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/process"
)

// TestRootIsMovedWhereItCannotBePivoted holds the way of machines that run from their initial ramfs: what enters the
// namespace later has the same root.
func TestRootIsMovedWhereItCannotBePivoted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to make a mount namespace")
	}
	root := t.TempDir()
	err := process.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", root, "tmpfs", 0, ""); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(root, "marker"), nil, 0o600); err != nil {
			return err
		}
		ns, err := os.Open("/proc/thread-self/ns/mnt")
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := os.Chdir(root); err != nil {
			return err
		}
		if err := moveOver(root); err != nil {
			return err
		}
		if _, err := os.Stat("/marker"); err != nil {
			t.Errorf("for the one that moved it: %v", err)
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return err
		}
		if _, err := os.Stat("/marker"); err != nil {
			t.Errorf("for one that comes later: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOuterMountsComeFirst(t *testing.T) {
	mounts := []Mount{{Target: "/a/b/c"}, {Target: "/x"}, {Target: "/a/"}, {Target: "/a/b"}, {Target: "/y"}}
	var got []string
	for _, i := range outerFirst(mounts) {
		got = append(got, mounts[i].Target)
	}
	if want := "[/x /a/ /y /a/b /a/b/c]"; want != fmt.Sprint(got) {
		t.Errorf("got %v, want %s", got, want)
	}
}
