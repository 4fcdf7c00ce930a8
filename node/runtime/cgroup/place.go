package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Place is one cgroup, opened for a process to be started in it. The zero Place, and nil, is no cgroup: the process stays
// where the one is that starts it.
type Place struct {
	dir, procs *os.File   // of version 2
	tasks      []*os.File // of version 1
}

// Place opens a cgroup that was made. It has to be closed.
func (s System) Place(path string) (*Place, error) {
	p := &Place{}
	var err error
	for _, root := range s.roots() {
		dir := filepath.Join(root, path)
		if _, missing := os.Stat(dir); errors.Is(missing, os.ErrNotExist) {
			continue // its controllers limit nothing here
		}
		var f *os.File
		if root != s.Unified {
			if f, err = os.OpenFile(filepath.Join(dir, "tasks"), os.O_WRONLY, 0); err == nil {
				p.tasks = append(p.tasks, f)
			}
		} else if p.dir, err = os.Open(dir); err == nil {
			p.procs, err = os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
		}
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("open a cgroup for a process: %w", err)
		}
	}
	return p, nil
}

// Join puts the calling thread, and so what it forks, into the cgroup on version 1. To be called on a thread that ends
// soon. Without cgroups of version 1 it does nothing.
func (p *Place) Join() error {
	if p == nil {
		return nil
	}
	for _, f := range p.tasks {
		if _, err := f.WriteString("0"); err != nil {
			return fmt.Errorf("enter a cgroup: %w", err)
		}
	}
	return nil
}

// Dir is the descriptor of the cgroup's folder on version 2 (CLONE_INTO_CGROUP), if it is there.
func (p *Place) Dir() (int, bool) {
	if p == nil || p.dir == nil {
		return 0, false
	}
	return int(p.dir.Fd()), true
}

// Procs is the descriptor of cgroup.procs on version 2, to which a process that was forked writes "0" to enter.
func (p *Place) Procs() (uintptr, bool) {
	if p == nil || p.procs == nil {
		return 0, false
	}
	return p.procs.Fd(), true
}

// Close may be repeated.
func (p *Place) Close() {
	if p == nil {
		return
	}
	for _, f := range append(p.tasks, p.dir, p.procs) {
		if f != nil {
			f.Close()
		}
	}
}
