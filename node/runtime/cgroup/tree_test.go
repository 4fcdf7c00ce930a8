package cgroup_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/process"
)

// newTree is a tree on this kernel that is removed with the test.
func newTree(t *testing.T) *cgroup.Tree {
	t.Helper()
	dir := t.TempDir()
	tree := cgroup.New(cgroup.Config{DataDir: dir, Own: func() []int { return []int{os.Getpid()} }})
	if err := tree.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cgroup.Cleanup(dir); err != nil {
			t.Error(err)
		}
		if tree.Has(tree.Top()) {
			t.Errorf("%s is left", tree.Top())
		}
	})
	for _, gap := range tree.Missing() {
		t.Log(gap)
	}
	return tree
}

// needs skips a test where the kernel has no such controller.
func needs(t *testing.T, tree *cgroup.Tree, controllers ...string) {
	t.Helper()
	for _, gap := range tree.Missing() {
		for _, c := range controllers {
			if gap.Controller == c {
				t.Skip(gap)
			}
		}
	}
}

func podGroup(tree *cgroup.Tree) string {
	return path.Join(tree.Top(), cgroup.Kubepods, "burstable", cgroup.PodPrefix+"1")
}

// start runs a shell in a cgroup, which is limited first.
func start(t *testing.T, tree *cgroup.Tree, group string, r cgroup.Resources, script string) (*process.Child, *os.File) {
	t.Helper()
	if err := tree.Make(group, r); err != nil {
		t.Fatal(err)
	}
	place, err := tree.Place(group)
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer nothing.Close()
	out, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	var pid int
	err = process.OnThread(func() (err error) {
		c := process.Command{Args: []string{"/bin/sh", "-c", script}, Cgroup: place}
		pid, err = c.Start([3]uintptr{nothing.Fd(), theirs.Fd(), theirs.Fd()}, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return process.NewChild(pid), out
}

// TestStartsInside: the first thing that a process can see of itself is its cgroup, and so of one that is forked without exec.
func TestStartsInside(t *testing.T) {
	tree := newTree(t)
	needs(t, tree, cgroup.Memory, cgroup.CPU, cgroup.PIDs)
	group := path.Join(podGroup(tree), "c")
	child, out := start(t, tree, group, cgroup.Resources{}, "cat /proc/self/cgroup")
	seen, err := io.ReadAll(out)
	if code, _, waitErr := child.Wait(); err != nil || waitErr != nil || code != 0 {
		t.Fatal(code, err, waitErr)
	}
	inside(t, string(seen), group)

	place, err := tree.Place(group)
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	var pid int
	err = process.OnThread(func() (err error) {
		pid, err = process.ForkInit(process.InitOptions{Cgroup: place})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	of, err := process.Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	inside(t, string(raw), group)
	// This process has a thread in it no more, and is not ended with what is left there.
	if err := tree.Remove(group); err != nil {
		t.Error(err)
	}
	if code, by, err := process.NewChild(of.PID).Wait(); err != nil || by != unix.SIGKILL {
		t.Errorf("the init ended with %d by %v, %v; want SIGKILL", code, by, err)
	}
}

func inside(t *testing.T, seen, group string) {
	t.Helper()
	for line := range strings.Lines(seen) {
		for _, c := range strings.Split(strings.SplitN(line, ":", 3)[1], ",") {
			if (c == "memory" || c == "pids" || c == "cpu") && !strings.HasSuffix(strings.TrimSpace(line), group) {
				t.Errorf("%s is not %s", line, group)
			}
		}
	}
	if !strings.Contains(seen, group) {
		t.Errorf("not in %s, but in %s", group, seen)
	}
}

func TestMemoryEnds(t *testing.T) {
	tree := newTree(t)
	needs(t, tree, cgroup.Memory)
	group := path.Join(podGroup(tree), "hog")
	child, out := start(t, tree, group, cgroup.Resources{Memory: 32 << 20, NoSwap: true, OOMGroup: true}, "exec dd if=/dev/zero of=/dev/null bs=256M count=1")
	defer out.Close()
	code, by, err := child.Wait()
	if err != nil || code != 137 || by != unix.SIGKILL {
		t.Errorf("ended with %d by %v, %v; want 137 by SIGKILL", code, by, err)
	}
	if kills, err := tree.OOMKills(group); err != nil || kills == 0 {
		t.Errorf("the kernel counts %d, %v; want some", kills, err)
	}
	got, err := tree.Get(group)
	if err != nil || got.Memory != 32<<20 {
		t.Errorf("memory %d, %v; want 32 MiB", got.Memory, err)
	}
	if err := tree.Set(group, cgroup.Resources{Memory: 16 << 20, NoSwap: true}); err != nil {
		t.Error(err)
	}
	if err := tree.Set(group, cgroup.Resources{Memory: cgroup.Unlimited, NoSwap: true}); err != nil {
		t.Error(err)
	}
	if got, err := tree.Get(group); err != nil || got.Memory != cgroup.Unlimited {
		t.Errorf("memory %d, %v; want no limit", got.Memory, err)
	}
}

// TestQuota has two processes that never rest, and asks the kernel what they used.
func TestQuota(t *testing.T) {
	tree := newTree(t)
	needs(t, tree, cgroup.CPU)
	group := path.Join(podGroup(tree), "burn")
	const quota, period = 20 * time.Millisecond, 100 * time.Millisecond
	limits := cgroup.Resources{Shares: 204, Quota: quota.Microseconds(), Period: uint64(period.Microseconds())}
	begin := time.Now()
	child, out := start(t, tree, group, limits, "while :; do :; done & while :; do :; done")
	defer out.Close()
	defer child.Wait()
	defer tree.Remove(group)
	var used time.Duration
	for used < 10*quota { // ten periods, however slow the machine
		n, err := tree.CPUUsed(group)
		if err != nil {
			t.Fatal(err)
		}
		used = time.Duration(n)
		time.Sleep(period)
	}
	n, err := tree.CPUUsed(group)
	if err != nil {
		t.Fatal(err)
	}
	// Two processors would be used twice over without the quota of a fifth. An emulated machine, whose clock ticks late, goes
	// over it by three quarters.
	if allowed := time.Since(begin)/2 + 3*quota; time.Duration(n) > allowed {
		t.Errorf("used %v in %v, more than %v", time.Duration(n), time.Since(begin), allowed)
	}
	if got, err := tree.Get(group); err != nil || got.Quota != limits.Quota || got.Period != limits.Period {
		t.Errorf("%+v, %v; want quota %d", got, err, limits.Quota)
	}
}

func TestForksStayInside(t *testing.T) {
	tree := newTree(t)
	needs(t, tree, cgroup.PIDs)
	pod := podGroup(tree)
	if err := tree.Make(pod, cgroup.Resources{PIDs: 20}); err != nil {
		t.Fatal(err)
	}
	child, out := start(t, tree, path.Join(pod, "bomb"), cgroup.Resources{}, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do sleep 1000 & done; wait")
	defer out.Close()
	lines := bufio.NewScanner(out)
	told := ""
	for !strings.Contains(told, "ork") && lines.Scan() { // the shell says that it cannot fork
		told += lines.Text()
	}
	if !strings.Contains(told, "ork") {
		t.Errorf("%q, %v; want that it cannot fork", told, lines.Err())
	}
	go child.Wait()
	// All that it began goes with the group.
	if err := tree.Remove(pod); err != nil || tree.Has(pod) {
		t.Errorf("%v, there: %t", err, tree.Has(pod))
	}
}

func TestSweep(t *testing.T) {
	tree := newTree(t)
	needs(t, tree, cgroup.Memory)
	pod := podGroup(tree)
	mine, other, lost := path.Join(pod, "mine"), path.Join(pod, "other"), path.Join(path.Dir(path.Dir(pod)), "pod2")
	for _, group := range []string{mine, other, path.Join(lost, "c")} {
		if err := tree.Make(group, cgroup.Resources{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Sweep(func(at string) bool { return at == pod || at == mine }); err != nil {
		t.Fatal(err)
	}
	if !tree.Has(mine) || tree.Has(other) || tree.Has(lost) || !tree.Has(path.Dir(pod)) {
		t.Errorf("there: mine %t, other %t, lost %t, the class %t", tree.Has(mine), tree.Has(other), tree.Has(lost), tree.Has(path.Dir(pod)))
	}
	if err := tree.Make("/elsewhere", cgroup.Resources{}); err == nil {
		t.Error("a group outside of the tree was made")
	}
}

// TestReadOnly: a hierarchy that cannot be written to is named, and nothing fails for it, also where an earlier start could.
func TestReadOnly(t *testing.T) {
	before := newTree(t)
	needs(t, before, cgroup.Memory)
	err := process.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		root := before.Unified
		if v1 := before.V1[cgroup.Memory]; v1 != "" {
			root = v1
		}
		if err := unix.Mount("", root, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return err
		}
		tree := cgroup.New(cgroup.Config{DataDir: before.DataDir()})
		if err := tree.Open(); err != nil {
			return err
		}
		if gaps := tree.Missing(); len(gaps) == 0 || !strings.Contains(fmt.Sprint(gaps), "memory limits are not enforced: cgroup controller memory") ||
			!strings.Contains(fmt.Sprint(gaps), "read-only") {
			t.Errorf("missing: %v", gaps)
		}
		return tree.Make(podGroup(tree), cgroup.Resources{Memory: 1 << 20, Shares: 2})
	})
	if err != nil {
		t.Error(err)
	}
}
