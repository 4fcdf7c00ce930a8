package cgroup

import (
	"maps"
	"testing"
)

func TestParseMounts(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		v1      map[string]string
		unified string
	}{
		"version 2": {text: "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", unified: "/sys/fs/cgroup"},
		"hybrid, two controllers in one hierarchy": {
			text: `31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw shared:6 - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
`,
			v1: map[string]string{
				CPU: "/sys/fs/cgroup/cpu,cpuacct", cpuacct: "/sys/fs/cgroup/cpu,cpuacct", Memory: "/sys/fs/cgroup/memory",
			}, unified: "/sys/fs/cgroup/unified",
		},
		"a container's part is mounted beside the whole": {
			text: `32 30 0:28 /docker/1 /cg/part rw - cgroup cgroup rw,memory
33 30 0:28 / /cg/whole\040one rw - cgroup cgroup rw,memory
34 30 0:28 / /cg/again rw - cgroup cgroup rw,memory
`,
			v1: map[string]string{Memory: "/cg/whole one"},
		},
		"none": {text: "20 1 8:1 / / rw - ext4 /dev/root rw,memory\nbroken\n"},
	} {
		if got := parseMounts(c.text); got.Unified != c.unified || !maps.Equal(got.V1, c.v1) {
			t.Errorf("%s: %q and %v, want %q and %v", name, got.Unified, got.V1, c.unified, c.v1)
		}
	}
}

// TestViews finds the same groups where nothing is mounted, as in `ip netns exec`.
func TestViews(t *testing.T) {
	seen, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	for c := range seen.V1 {
		at, err := openView("cgroup", together(seen, c))
		if err != nil {
			t.Errorf("controller %s: %v", c, err)
		} else if !exists(at, "tasks") {
			t.Errorf("controller %s: there is no file tasks in %s", c, at)
		}
	}
	if seen.Unified != "" {
		if at, err := openView("cgroup2", nil); err != nil || !exists(at, "cgroup.controllers") {
			t.Errorf("version 2: %s, %v", at, err)
		}
	}
}

// together are the controllers of one hierarchy.
func together(s System, of string) (names []string) {
	for c, root := range s.V1 {
		if root == s.V1[of] {
			names = append(names, c)
		}
	}
	return names
}

func TestWeights(t *testing.T) {
	for _, c := range []struct {
		shares uint64
		runs   bool
		want   uint64
	}{{0, false, 0}, {2, false, 1}, {1024, false, 39}, {262144, false, 10000}, {1 << 30, false, 10000}, {1024, true, 100}, {2, true, 1}, {262144, true, 10000}} {
		if got := (Resources{Shares: c.shares, Container: c.runs}).weight(); got != c.want {
			t.Errorf("%d shares of a container (%t): weight %d, want %d", c.shares, c.runs, got, c.want)
		}
	}
}
