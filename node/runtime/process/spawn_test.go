package process

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// filterOf returns a value for some calls, and another one for the others.
func filterOf(t *testing.T, others, value uint32, calls ...uint32) *Filter {
	t.Helper()
	list := []bpf.Instruction{bpf.LoadAbsolute{Off: 0, Size: 4}}
	for _, number := range calls {
		list = append(list, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number, SkipFalse: 1}, bpf.RetConstant{Val: value})
	}
	raw, err := bpf.Assemble(append(list, bpf.RetConstant{Val: others}))
	if err != nil {
		t.Fatal(err)
	}
	f := &Filter{}
	for _, i := range raw {
		f.Program = binary.NativeEndian.AppendUint16(f.Program, i.Op)
		f.Program = append(f.Program, i.Jt, i.Jf)
		f.Program = binary.NativeEndian.AppendUint32(f.Program, i.K)
	}
	return f
}

const (
	filterAllows = 0x7fff0000
	filterKills  = 0x80000000
	filterErrno  = 0x00050000
)

// ownSteps are the calls that the child makes before the exec. A program of the container needs none of them.
var ownSteps = []uint32{
	unix.SYS_RT_SIGACTION, unix.SYS_SETSID, sysSetgroups, sysSetgid, sysSetuid, unix.SYS_CHDIR, unix.SYS_CAPSET,
	unix.SYS_SECCOMP, unix.SYS_EXIT,
}

func TestAFilterComesLast(t *testing.T) {
	needRoot(t)
	init := newInit(t)
	uid, gid := uint32(1500), uint32(1600)
	const script = `echo "$HOME $PWD $0 $1"; while read name rest; do case $name in Uid:|Groups:|Cap???:|NoNewPrivs:|Seccomp:|SigBlk:|SigIgn:) echo "$name $rest";; esac; done < /proc/self/status; kill -0 1 2>&1`
	// A shell handles signals, so that one may not be ended by the filter.
	steps := filterOf(t, filterAllows, filterKills, ownSteps[1:]...)
	for _, c := range []struct {
		name    string
		command Command
		want    []string
	}{
		{"root", Command{}, []string{"/root / a b", "Uid: 0\t0\t0\t0", "CapInh: 0000000000000000", "NoNewPrivs: 0", "Seccomp: 2"}},
		{
			"another user", Command{User: User{UID: &uid, GID: &gid, Groups: []uint32{7, 8}}},
			[]string{"Uid: 1500\t1500\t1500\t1500", "Groups: 7 8 1600", "CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapAmb: 0000000000000000", "NoNewPrivs: 0", "Seccomp: 2"},
		},
		{
			"another user without new privileges", Command{User: User{UID: &uid}, NoNewPrivs: true, Dir: "/tmp"},
			[]string{"/ /tmp a b", "CapPrm: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"},
		},
	} {
		c.command.Args, c.command.Filter = []string{"sh", "-c", script, "a", "b"}, steps
		got := runIn(t, init, c.command)
		for _, line := range append(c.want, "SigBlk: 0000000000000000", "SigIgn: 0000000000000000") {
			if !strings.Contains(got+"\n", line+"\n") {
				t.Errorf("%s: no %q in\n%s", c.name, line, got)
			}
		}
	}
	refused := filterOf(t, filterAllows, filterErrno|uint32(unix.EXDEV), unix.SYS_KILL)
	if got := runIn(t, init, Command{Args: []string{"sh", "-c", script}, Filter: refused}); !strings.Contains(got, "cross-device") {
		t.Errorf("a call that the filter refuses: %s", got)
	}
}

// TestAFilterThatRefusesEverythingEndsOnlyItsProcess: not the one that starts it, which has the containers of all.
func TestAFilterThatRefusesEverythingEndsOnlyItsProcess(t *testing.T) {
	needRoot(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	start := func(f *Filter) (pid int, err error) {
		err = OnThread(func() error {
			pid, err = Command{Args: []string{"true"}, Filter: f}.Start([3]uintptr{null.Fd(), null.Fd(), null.Fd()}, false)
			return err
		})
		return pid, err
	}
	for range 10 {
		if _, err := start(filterOf(t, filterErrno|uint32(unix.EPERM), 0)); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "true\" in directory \"/\"") {
			t.Errorf("with a filter that refuses each call: %v", err)
		}
		pid, err := start(filterOf(t, filterKills, 0))
		if err != nil {
			t.Fatalf("with a filter that ends the process: %v", err)
		}
		var end unix.WaitStatus
		if _, err := unix.Wait4(pid, &end, 0, nil); err != nil || end.Signal() != unix.SIGSYS {
			t.Errorf("it ended with %v %v, want SIGSYS", end, err)
		}
	}
	if _, err := start(&Filter{Program: make([]byte, filterInstruction)}); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "install the seccomp filter") {
		t.Errorf("with what is no filter: %v", err)
	}
}

// TestNothingIsInherited: a service manager may have given this process capabilities that programs inherit.
func TestNothingIsInherited(t *testing.T) {
	needRoot(t)
	uid := uint32(1500)
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var pid int
	err = OnThread(func() error {
		defer theirs.Close()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var sets [2]unix.CapUserData
		if err := unix.Capget(&header, &sets[0]); err != nil {
			return err
		}
		sets[0].Inheritable |= 1 << unix.CAP_NET_RAW
		if err := unix.Capset(&header, &sets[0]); err != nil {
			return err
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_NET_RAW, 0, 0); err != nil {
			return err
		}
		pid, err = Command{Args: []string{"grep", "^Cap[IPEA]", "/proc/self/status"}, User: User{UID: &uid}}.Start([3]uintptr{theirs.Fd(), theirs.Fd(), theirs.Fd()}, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	unix.Wait4(pid, nil, 0, nil)
	if got := strings.Count(string(raw), "0000000000000000"); got != 4 {
		t.Errorf("a process of another user has\n%s", raw)
	}
}

// TestAFilteredCommandHasTheLimitsOfOthers: the Go runtime raises that of files for itself only.
func TestAFilteredCommandHasTheLimitsOfOthers(t *testing.T) {
	needRoot(t)
	init := newInit(t)
	command := Command{Args: []string{"cat", "/proc/self/limits"}}
	plain := runIn(t, init, command)
	command.Filter = filterOf(t, filterAllows, 0)
	if filtered := runIn(t, init, command); filtered != plain {
		t.Errorf("without a filter:\n%s\nwith one:\n%s", plain, filtered)
	}
}

func TestErrorsOfAFilteredCommandAreThoseOfOthers(t *testing.T) {
	needRoot(t)
	text := t.TempDir() + "/text"
	if err := os.WriteFile(text, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, command := range []Command{
		{Args: []string{"true"}, Dir: "/nonexistent"}, {Args: []string{text}}, {Args: []string{"true", strings.Repeat("x", 1<<20)}},
	} {
		var texts [2]string
		for i, filter := range []*Filter{nil, filterOf(t, filterAllows, 0)} {
			command.Filter = filter
			err := OnThread(func() error {
				_, err := command.Start([3]uintptr{0, 1, 2}, false)
				return err
			})
			if err == nil {
				t.Fatalf("%q starts", command.Args[0])
			}
			texts[i] = err.Error()
		}
		if texts[0] != texts[1] {
			t.Errorf("without a filter: %s\nwith one: %s", texts[0], texts[1])
		}
	}
}

// TestManySpawnAtOnce: each withholds this process's memory from its child for a moment, and none from another one's.
func TestManySpawnAtOnce(t *testing.T) {
	needRoot(t)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	filter := filterOf(t, filterAllows, 0)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 15 {
				garbage := make([]byte, 1<<20)
				for j := range garbage {
					garbage[j] = byte(i)
				}
				var pid int
				err := OnThread(func() (err error) {
					pid, err = Command{Args: []string{"sh", "-c", "exit 7"}, Filter: filter}.Start([3]uintptr{null.Fd(), null.Fd(), null.Fd()}, false)
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
				if code, _, err := NewChild(pid).Wait(); code != 7 || err != nil {
					t.Errorf("a process ends with %d, %v, want 7", code, err)
				}
				if garbage[1<<19] != byte(i) {
					t.Error("our own memory was changed")
				}
			}
		})
	}
	all.Wait()
}
