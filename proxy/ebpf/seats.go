package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// attached lists the programs at a hook, the first to run first; none where the device is gone or the kernel has no
// such hook. Filters, which come after them, are in clsact.go.
func (h hook) attached(cgroup *os.File) ([]ebpf.ProgramID, error) {
	if h.attach == ebpf.AttachXDP {
		return h.early()
	}
	found, err := link.QueryPrograms(link.QueryOptions{Target: h.target(cgroup), Attach: h.attach})
	if h.packets() && (gone(err) || errors.Is(err, link.ErrNotSupported)) {
		found, err = new(link.QueryResult), nil // there is no tcx before Linux 6.6
	}
	if err != nil {
		return nil, fmt.Errorf("asking what is attached to %s: %w", h.label(), err)
	}
	var ids []ebpf.ProgramID
	for _, p := range found.Programs {
		ids = append(ids, p.ID)
	}
	return ids, nil
}

func (h hook) target(cgroup *os.File) int {
	if h.ifindex != 0 {
		return h.ifindex
	}
	return int(cgroup.Fd())
}

// put attaches a program: in place of another one, or where at says.
func (h hook) put(cgroup *os.File, p *ebpf.Program, at link.Anchor) error {
	options := link.RawAttachProgramOptions{Target: h.target(cgroup), Program: p, Attach: h.attach, Anchor: at}
	if h.ifindex == 0 {
		options.Flags = unix.BPF_F_ALLOW_MULTI
	}
	if err := link.RawAttachProgram(options); err != nil {
		return fmt.Errorf("attaching to %s: %w", h.label(), err)
	}
	return nil
}

// drop detaches a program that is attached without a link.
func (h hook) drop(cgroup *os.File, id ebpf.ProgramID) error {
	if h.attach == ebpf.AttachXDP {
		return h.setEarly(nil, id)
	}
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening program %d: %w", id, err)
	}
	defer p.Close()
	err = link.RawDetachProgram(link.RawDetachProgramOptions{Target: h.target(cgroup), Program: p, Attach: h.attach})
	if err != nil && !gone(err) {
		return fmt.Errorf("taking program %d away from %s: %w", id, h.label(), err)
	}
	return nil
}

// standing is which programs are at a hook.
type standing struct {
	ours          bool             // the program of this process
	rivals, older []ebpf.ProgramID // svcplane's of this network namespace that other processes left, by their layout
	behind        bool             // somebody else's program comes before
}

// standing sorts the programs at a hook. If one is unknown, an inventory is taken anew.
func (k *kernel) standing(h hook, there []ebpf.ProgramID) (standing, error) {
	var s standing
	for _, id := range there {
		if !k.found.all[id] {
			var err error
			if k.found, err = takeInventory(); err != nil {
				return s, err
			}
		}
		p, own := k.found.own[id]
		switch {
		case id == k.ids[h.program]:
			s.ours = true
		case !own:
			s.behind = s.behind || !s.ours && len(s.rivals) == 0 && h.packets()
		case p.current():
			s.rivals = append(s.rivals, id)
		default:
			s.older = append(s.older, id)
		}
	}
	return s, nil
}

// errBehind says that a program is attached behind another owner's. The kernel moves none: a copy has to be attached first.
var errBehind = errors.New("somebody else's program comes first")

// seat attaches the program of h in place of what an earlier process has left there: it runs first, but for programs of an
// older layout.
func (k *kernel) seat(cgroup *os.File, h hook) error {
	there, err := h.attached(cgroup)
	if err != nil {
		return err
	}
	s, err := k.standing(h, there)
	if err != nil {
		return err
	}
	switch {
	case s.ours && s.behind:
		return errBehind
	case s.ours:
	case len(s.rivals) > 0 && !s.behind:
		err = k.replace(cgroup, h, s.rivals[0])
		s.rivals = s.rivals[1:]
	default:
		var at link.Anchor
		if h.packets() {
			at = link.Head()
			if len(s.older) > 0 {
				at = link.AfterProgramByID(s.older[len(s.older)-1])
			}
		}
		err = h.put(cgroup, k.prog[h.program], at)
	}
	for _, id := range s.rivals {
		err = errors.Join(err, h.drop(cgroup, id))
	}
	return err
}

// replace puts the program of this process in the place of another one in one step.
func (k *kernel) replace(cgroup *os.File, h hook, id ebpf.ProgramID) error {
	old, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Errorf("opening program %d, which is to be replaced: %w", id, err)
	}
	defer old.Close()
	return h.put(cgroup, k.prog[h.program], link.ReplaceProgram(old))
}

// eachSeat calls f for every place where one of the programs is attached, as far as this process sees. What is attached
// by links of versions that had those is not among them.
func eachSeat(of programs, f func(cgroup *os.File, h hook, id ebpf.ProgramID) error) error {
	if len(of) == 0 {
		return nil
	}
	visit := func(cgroup *os.File, h hook) error {
		there, err := h.attached(cgroup)
		if err != nil {
			return err
		}
		for _, id := range there {
			if _, ok := of[id]; ok {
				err = errors.Join(err, f(cgroup, h, id))
			}
		}
		return err
	}
	var problems []error
	if slices.ContainsFunc(slices.Collect(maps.Values(of)), program.sockets) {
		problems = append(problems, eachCgroup(visit))
	}
	links, err := linkList()
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	for _, l := range links {
		for _, h := range append(packetHooks(l.Attrs().Index), earlyHook(l.Attrs().Index)) {
			problems = append(problems, visit(nil, h))
		}
	}
	return errors.Join(problems...)
}

// eachCgroup calls visit for all hooks of all cgroups that can be seen. Those that go meanwhile have none.
func eachCgroup(visit func(*os.File, hook) error) error {
	root, keep, err := defaultCgroup()
	if err != nil {
		return err
	}
	if keep != nil {
		defer keep.Close()
	}
	// root may be a symbolic link, and with /. it is the folder
	return filepath.WalkDir(root+"/.", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil
		}
		dir, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer dir.Close()
		for _, h := range socketHooks() {
			if err := visit(dir, h); err != nil && !errors.Is(err, unix.ENODEV) {
				return err
			}
		}
		return nil
	})
}

// detach detaches programs wherever they are attached.
func detach(all programs) error {
	if len(all) == 0 {
		return nil
	}
	return errors.Join(detachLinks(all), eachSeat(all, func(cgroup *os.File, h hook, id ebpf.ProgramID) error {
		return h.drop(cgroup, id)
	}))
}

// detachLinks is for versions that attached by links, whose pins may be in a mount namespace that this process does not see.
func detachLinks(all programs) error {
	var problems []error
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if p, ok := all[info.Program]; !ok || p.current() {
			continue
		}
		if err := links.Link.Detach(); err != nil && !errors.Is(err, link.ErrNotSupported) {
			problems = append(problems, fmt.Errorf("detaching a link to program %s: %w", all[info.Program].name, err))
		}
	}
	if err := links.Err(); err != nil {
		problems = append(problems, fmt.Errorf("asking the kernel for its links: %w", err))
	}
	return errors.Join(problems...)
}
