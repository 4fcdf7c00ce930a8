package ebpf

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// surveyed is what is attached to the hooks that should have programs.
type surveyed struct {
	// first is the program of this layout that decides about new connections; nil when there is none
	first *program
	// what is wrong at which hooks
	missing, rivals, older, behind []string
}

// survey looks at what is attached and in force, whoever attached it.
func survey(inv inventory, path string, hooks []hook) (surveyed, error) {
	var s surveyed
	cgroup, err := os.Open(path)
	if err != nil {
		return s, fmt.Errorf("opening cgroup %s: %w", path, err)
	}
	defer cgroup.Close()
	at := map[string][]program{}
	for _, h := range slices.Backward(hooks) { // those of the cgroup first
		there, foreign, err := inv.at(cgroup, h)
		if err != nil {
			return s, err
		}
		name := h.label()
		for _, p := range there {
			if !p.current() {
				s.older = append(s.older, name)
				continue
			}
			at[name] = append(at[name], p)
			if s.first == nil {
				s.first = &p
			}
		}
		if len(at[name]) == 0 {
			s.missing = append(s.missing, name)
		}
		if foreign && len(there) > 0 && h.packets() {
			s.behind = append(s.behind, name)
		}
	}
	for name, all := range at {
		if len(all) > 1 || all[0].maps[mapConfig] != s.first.maps[mapConfig] {
			s.rivals = append(s.rivals, name)
		}
	}
	slices.Sort(s.rivals)
	return s, nil
}

// at lists the programs of ours at a hook; foreign says that somebody else's comes before. Filters have priorities that
// people choose.
func (i inventory) at(cgroup *os.File, h hook) (own []program, foreign bool, err error) {
	there, err := h.attached(cgroup)
	if err != nil {
		return nil, false, err
	}
	for n, id := range there {
		if p, ok := i.own[id]; ok {
			foreign = foreign || n > len(own)
			own = append(own, p)
		}
	}
	if len(own) > 0 || !h.packets() {
		return own, foreign, nil
	}
	all, err := filters(h.ifindex, h.parent())
	for _, f := range all {
		if b := ownFilter(f); b != nil {
			if p, ok := i.own[ebpf.ProgramID(b.Id)]; ok {
				own = append(own, p)
			}
		}
	}
	return own, false, err
}

// faults are lines about hooks that are not as they should be.
func (s surveyed) faults() []string {
	var lines []string
	for _, l := range []struct {
		what  string
		hooks []string
	}{
		{"not attached", s.missing},
		{"programs of another start of svcplane are attached", s.rivals},
		{"programs of another version of svcplane are attached", s.older},
		{"a program of somebody else comes first", s.behind},
	} {
		if len(l.hooks) > 0 {
			lines = append(lines, l.what+": "+strings.Join(l.hooks, " "))
		}
	}
	return lines
}
