package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Controllers that a Tree uses. cpuacct only counts, and hugetlb concerns only pods that ask for huge pages.
const (
	CPU     = "cpu"
	cpuacct = "cpuacct"
	Memory  = "memory"
	PIDs    = "pids"
	Huge    = "hugetlb"
)

// controllers are in the order in which people read about them.
var controllers = [...]string{CPU, cpuacct, Memory, PIDs, Huge}

// System says where control groups are, as this process sees them.
type System struct {
	V1      map[string]string // by controller: the root of its hierarchy
	Unified string            // the root of version 2; empty: there is none
	OnV2    []string          // the controllers that version 2 has at its root
}

// Find looks for control groups. In a mount namespace without them, as `ip netns exec` makes one, it opens views of its
// own, which hold as long as the process does.
func Find() (System, error) {
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return System{}, fmt.Errorf("look for cgroups: %w", err)
	}
	s := parseMounts(string(mounts))
	own, err := os.ReadFile("/proc/self/cgroup")
	if errors.Is(err, os.ErrNotExist) {
		return s, nil // a kernel without
	}
	if err != nil {
		return System{}, fmt.Errorf("look for cgroups: %w", err)
	}
	if s.Unified == "" && len(s.V1) == 0 {
		s = openViews(string(own))
	}
	if s.Unified != "" {
		if raw, err := os.ReadFile(filepath.Join(s.Unified, "cgroup.controllers")); err == nil {
			s.OnV2 = strings.Fields(string(raw))
		}
	}
	return s, nil
}

// parseMounts reads proc_pid_mountinfo(5). Of several mounts of a hierarchy that which shows most of it, or else the first, counts.
func parseMounts(text string) System {
	s := System{V1: map[string]string{}}
	whole := map[string]bool{}
	take := func(name string, root, at string) bool {
		if _, have := whole[name]; have && (whole[name] || root != "/") {
			return false
		}
		whole[name] = root == "/"
		return true
	}
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		f, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(kind) < 3 {
			continue
		}
		root, at := unescape(f[3]), unescape(f[4])
		switch kind[0] {
		case "cgroup2":
			if take("", root, at) {
				s.Unified = at
			}
		case "cgroup":
			for option := range strings.SplitSeq(kind[2], ",") {
				if slices.Contains(controllers[:], option) && take(option, root, at) {
					s.V1[option] = at
				}
			}
		}
	}
	return s
}

// unescape undoes the octal numbers of mountinfo.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// openViews makes mounts that are in no mount namespace, of the hierarchies that /proc/self/cgroup lists.
func openViews(own string) System {
	s := System{V1: map[string]string{}}
	for line := range strings.Lines(own) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) < 3 {
			continue
		}
		if f[1] == "" {
			if at, err := openView("cgroup2", nil); err == nil {
				s.Unified = at
			}
			continue
		}
		names := strings.Split(f[1], ",")
		if !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(controllers[:], name) }) {
			continue
		}
		at, err := openView("cgroup", names)
		if err != nil {
			continue // the controller is missing, and Tree.Missing says so
		}
		for _, name := range names {
			s.V1[name] = at
		}
	}
	return s
}

// openView gives the path of a mount by its descriptor, which stays open.
func openView(kind string, flags []string) (string, error) {
	context, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("open the file system %s: %w", kind, err)
	}
	defer unix.Close(context)
	for _, flag := range flags {
		if err := unix.FsconfigSetFlag(context, flag); err != nil {
			return "", fmt.Errorf("open the cgroups of %s: %w", flag, err)
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return "", fmt.Errorf("make a view of the file system %s: %w", kind, err)
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("mount the file system %s: %w", kind, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", mount), nil
}
