package cgroup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Config says whose a Tree is.
type Config struct {
	DataDir string // a tree of its own for each
	Under   string // folder of cgroup version 2 in which it lies; empty: the root
	// Own lists processes that may be moved from Under into the tree: cgroup version 2 hands no memory down from a cgroup
	// that has processes itself. Nil: none.
	Own func() []int
}

// Tree is the control groups of one data directory. Paths begin at the root of the hierarchies: Tree.Top() + "/kubepods".
type Tree struct {
	System
	cfg     Config
	top     string
	missing map[string]error // by controller; set by Open

	mu sync.Mutex // held while groups are made or removed
}

// Gap is something that is not limited, and why.
type Gap struct{ Controller, Why string }

// String says it to people.
func (g Gap) String() string {
	what := map[string]string{
		CPU: "CPU limits and requests", Memory: "memory limits", PIDs: "limits of processes (--pod-max-pids)", Huge: "limits of huge pages",
	}[g.Controller]
	return fmt.Sprintf("%s are not enforced: cgroup controller %s: %s", what, g.Controller, g.Why)
}

// name is that of the folder of a data directory.
func name(dataDir string) string {
	if path, err := filepath.Abs(dataDir); err == nil {
		dataDir = path
	}
	sum := sha256.Sum256([]byte(dataDir))
	return "svcplane-" + hex.EncodeToString(sum[:4])
}

// New makes a Tree that works from Open on.
func New(cfg Config) *Tree {
	return &Tree{cfg: cfg, top: "/" + name(cfg.DataDir), missing: map[string]error{}}
}

// Open makes the top of the tree, where that can be. A kernel that gives no cgroups makes a Tree that limits nothing, and
// says so. To be called once, before anything else.
func (t *Tree) Open() error {
	var err error
	if t.System, err = Find(); err != nil {
		return err
	}
	cfg := t.cfg
	if cfg.Under != "" && len(t.roots()) > 0 && slices.Contains(t.roots(), t.Unified) {
		under, err := filepath.Rel(t.Unified, filepath.Clean(cfg.Under))
		if err != nil || under == ".." || strings.HasPrefix(under, "../") {
			return fmt.Errorf("make cgroups in %s: it is not below %s, where cgroup version 2 is mounted: correct --cgroup", cfg.Under, t.Unified)
		}
		t.top = path.Join("/", under, name(cfg.DataDir))
	}
	for _, c := range controllers {
		if t.V1[c] == "" {
			continue
		}
		if err := makeTop(filepath.Join(t.V1[c], t.top)); err != nil {
			t.missing[c] = err
		}
	}
	t.openV2(cfg)
	for _, c := range controllers {
		if t.V1[c] == "" && !slices.Contains(t.OnV2, c) && c != cpuacct && t.missing[c] == nil {
			t.missing[c] = errors.New("the kernel offers no such controller here, or it is mounted nowhere")
		}
	}
	return nil
}

// makeTop makes a folder, and sees that it can be written to: an earlier start may have made it.
func makeTop(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return &os.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// openV2 makes the top folder and has the controllers handed down to it. Those that version 1 has stay there.
func (t *Tree) openV2(cfg Config) {
	wanted := slices.DeleteFunc(slices.Clone(controllers[:]), func(c string) bool { return t.V1[c] != "" || !slices.Contains(t.OnV2, c) })
	if len(wanted) == 0 {
		t.OnV2 = nil
		return
	}
	dir := filepath.Join(t.Unified, t.top)
	if err := makeTop(dir); err != nil {
		for _, c := range wanted {
			t.missing[c] = err
		}
		return
	}
	for at := t.Unified; ; {
		for _, c := range wanted {
			if t.missing[c] == nil {
				t.missing[c] = t.handDown(at, c, cfg)
			}
		}
		if at == dir {
			return
		}
		next, _, _ := strings.Cut(strings.TrimPrefix(dir, at+"/"), "/")
		at = filepath.Join(at, next)
	}
}

// handDown enables a controller for the children of a folder.
func (t *Tree) handDown(at, controller string, cfg Config) error {
	raw, err := os.ReadFile(filepath.Join(at, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	if slices.Contains(strings.Fields(string(raw)), controller) {
		return nil
	}
	err = cgroups.WriteFile(at, "cgroup.subtree_control", "+"+controller)
	if errors.Is(err, unix.EBUSY) && cfg.Own != nil {
		if err := t.moveOwn(at, cfg.Own()); err != nil {
			return err
		}
		err = cgroups.WriteFile(at, "cgroup.subtree_control", "+"+controller)
	}
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: processes in %s itself keep it from being handed down: move them to a cgroup below", err, at)
	}
	return err
}

// moveOwn moves this server's processes out of the way, to a leaf beside the pods.
func (t *Tree) moveOwn(from string, own []int) error {
	raw, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
	if err != nil {
		return err
	}
	leaf := filepath.Join(t.Unified, t.top, serverLeaf)
	for text := range strings.FieldsSeq(string(raw)) {
		pid, err := strconv.Atoi(text)
		if err != nil || !slices.Contains(own, pid) {
			continue
		}
		if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := cgroups.WriteCgroupProc(leaf, pid); err != nil {
			return err
		}
	}
	return nil
}

// serverLeaf has the server where it had to make place.
const serverLeaf = "server"

// DataDir is whose tree it is.
func (t *Tree) DataDir() string { return t.cfg.DataDir }

// Top is the path of the tree.
func (t *Tree) Top() string { return t.top }

// works says whether a controller limits something here.
func (t *Tree) works(controller string) bool {
	return t.missing[controller] == nil && (t.V1[controller] != "" || slices.Contains(t.OnV2, controller))
}

// OOMGroups says whether all processes of a container can be ended together when its memory is short: on version 2.
func (t *Tree) OOMGroups() bool { return t.works(Memory) && t.V1[Memory] == "" }

// Missing lists the controllers that limit nothing here. Without huge pages nobody misses hugetlb, and it is not listed.
func (t *Tree) Missing() []Gap {
	var gaps []Gap
	for _, c := range []string{CPU, Memory, PIDs} {
		if err := t.missing[c]; err != nil {
			gaps = append(gaps, Gap{c, err.Error()})
		}
	}
	if err := t.missing[Huge]; err != nil && len(cgroups.HugePageSizes()) > 0 && t.hugePages() {
		gaps = append(gaps, Gap{Huge, err.Error()})
	}
	return gaps
}

// hugePages says whether the machine has any set aside.
func (t *Tree) hugePages() bool {
	found, err := filepath.Glob("/sys/kernel/mm/hugepages/*/nr_hugepages")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(found, func(file string) bool {
		raw, err := os.ReadFile(file)
		return err == nil && limit(strings.TrimSpace(string(raw))) > 0
	})
}

// roots are those of the hierarchies with controllers that are used.
func (s System) roots() []string {
	var roots []string
	for _, c := range controllers {
		if root := s.V1[c]; root != "" && !slices.Contains(roots, root) {
			roots = append(roots, root)
		}
	}
	if s.Unified != "" && slices.ContainsFunc(s.OnV2, func(c string) bool { return slices.Contains(controllers[:], c) && s.V1[c] == "" }) {
		roots = append(roots, s.Unified)
	}
	return roots
}

// Make makes a cgroup, with what is above it in the tree, and limits it. It may be there already.
func (t *Tree) Make(path string, r Resources) error {
	top, ok := t.topOf(path)
	if !ok {
		return fmt.Errorf("make cgroup %s: it is not in %s, which is this node's", path, t.top)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, root := range t.roots() {
		if err := t.makeIn(root, top, path); err != nil {
			return fmt.Errorf("make cgroup %s: %w", path, err)
		}
	}
	return t.set(path, r)
}

// topOf is the tree that a path is in: pods of an earlier start may be in one that lies elsewhere.
func (t *Tree) topOf(at string) (string, bool) {
	base := path.Base(t.top)
	for dir := path.Clean(at); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if path.Base(dir) == base {
			return dir, true
		}
	}
	return "", false
}

func (t *Tree) makeIn(root, top, path string) error {
	at := filepath.Join(root, top)
	if unix.Access(at, unix.W_OK) != nil {
		return nil // a controller that is missing
	}
	rest := strings.TrimPrefix(path, top)
	for part := range strings.SplitSeq(strings.Trim(rest, "/"), "/") {
		if part == "" {
			break
		}
		if root == t.Unified {
			for _, c := range t.OnV2 {
				if !t.works(c) || t.V1[c] != "" || !slices.Contains(controllers[:], c) {
					continue
				}
				if err := t.handDown(at, c, Config{}); err != nil {
					return err
				}
			}
		}
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// Set changes the limits of a cgroup that is there.
func (t *Tree) Set(path string, r Resources) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set(path, r)
}

// Has says whether a cgroup is there.
func (t *Tree) Has(path string) bool {
	return slices.ContainsFunc(t.roots(), func(root string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	})
}

// Add moves a process into a cgroup: one that a program has started which knows of none.
func (t *Tree) Add(path string, pid int) error {
	var errs []error
	for _, root := range t.roots() {
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			errs = append(errs, cgroups.WriteCgroupProc(filepath.Join(root, path), pid))
		}
	}
	return errors.Join(errs...)
}

// Remove removes a cgroup with those in it, when their last process has ended. One that is not there is no error.
func (t *Tree) Remove(path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.System.remove(path)
}

// children lists the folders in a cgroup, of all hierarchies.
func (s System) children(path string) []string {
	var names []string
	for _, root := range s.roots() {
		entries, err := os.ReadDir(filepath.Join(root, path))
		if err != nil {
			continue // it is not there
		}
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	return names
}

// Names in a tree, which are the kubelet's.
const (
	Kubepods  = "kubepods"
	PodPrefix = "pod"
)
