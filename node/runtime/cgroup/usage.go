package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Usage is what the processes of a cgroup use and have used: nanoseconds, octets, faults of pages.
type Usage struct {
	CPU                 uint64
	Memory, WorkingSet  uint64 // with all of the page cache; without what can be taken back at once
	RSS                 uint64 // what belongs to no file
	Limit               uint64 // of memory; 0: there is none
	Faults, MajorFaults uint64
	Swap                *uint64 // nil: the kernel does not count it
	Processes           uint64
}

// Usage reads it. It fails where processor time or memory are not counted.
func (t *Tree) Usage(path string) (Usage, error) {
	var u Usage
	cpu, err := t.CPUUsed(path)
	if err != nil {
		return u, fmt.Errorf("measure cgroup %s: %w", path, err)
	}
	memory, err := t.MemoryUsed(path)
	if err != nil {
		return u, err
	}
	u.CPU, u.Memory = uint64(max(cpu, 0)), uint64(max(memory, 0))
	dir, names := filepath.Join(t.Unified, path), [...]string{"inactive_file", "anon", "pgfault", "pgmajfault", ""}
	limitFile := "memory.max"
	if root := t.V1[Memory]; root != "" {
		dir, limitFile = filepath.Join(root, path), "memory.limit_in_bytes"
		names = [...]string{"total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault", "total_swap"}
	}
	stat, err := readKeyed(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return u, fmt.Errorf("measure cgroup %s: %w", path, err)
	}
	u.WorkingSet = u.Memory - min(u.Memory, stat[names[0]])
	u.RSS, u.Faults, u.MajorFaults = stat[names[1]], stat[names[2]], stat[names[3]]
	if swap, counted := stat[names[4]]; counted {
		u.Swap = &swap
	} else if n, err := t.number(Memory, path, "memory.swap.current"); err == nil && names[4] == "" {
		swap := uint64(max(n, 0))
		u.Swap = &swap
	}
	if n, err := t.number(Memory, path, limitFile); err == nil && n > 0 && n < 1<<62 {
		u.Limit = uint64(n)
	}
	return u, t.count(dir, &u)
}

// count counts processes, those of cgroups below included.
func (t *Tree) count(dir string, u *Usage) error {
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("count processes: %w", err)
	}
	u.Processes += uint64(bytes.Count(raw, []byte("\n")))
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, t.count(filepath.Join(dir, e.Name()), u))
		}
	}
	return err
}

// readKeyed reads a file of names and numbers.
func readKeyed(file string) (map[string]uint64, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	all := map[string]uint64{}
	for line := range strings.Lines(string(raw)) {
		if name, text, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			if n := limit(text); n >= 0 {
				all[name] = uint64(n)
			}
		}
	}
	return all, nil
}
