package ebpf

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
)

// layoutVersion changes whenever the maps of an older version cannot be used as they are (takeover.go).
const layoutVersion = "v6"

// kernel is the programs and maps, loaded; where they are attached is in links.go and seats.go.
type kernel struct {
	cfg  Config
	maps map[string]*ebpf.Map
	prog map[string]*ebpf.Program // nil when only opened for reading
	ids  map[string]ebpf.ProgramID
	// found is what else was loaded at the last look
	found inventory
	// gathered says that nothing of ours is in other cgroups
	gathered bool
	// clsact says that packets are led to the programs by filters of qdiscs, because the kernel has no tcx
	clsact bool
	// refused says why hooks of XDP could not be attached, by the name of the hook
	refused map[string]error
}

// load brings the programs into the kernel, with the maps that an earlier process has left attached there.
func load(cfg Config, hooks []hook) (*kernel, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lifting the limit on locked memory, run as root: %w", err)
	}
	inv, err := takeInventory()
	if err != nil {
		return nil, err
	}
	// their network namespaces are gone, so no cleanup can run there, and a cgroup takes 64 programs of a kind; the next start
	// tries again if this fails
	_ = detach(inv.orphans)
	removeOrphanedPins()
	k := &kernel{cfg: cfg, found: inv}
	left, err := survey(inv, cfg.Cgroup, hooks)
	if err != nil {
		return nil, err
	}
	var kept map[string]*ebpf.Map
	if left.first != nil {
		if kept, err = left.first.openMaps(); err != nil {
			return nil, err
		}
		defer closeAll(kept)
	}
	if err := k.load(kept); err != nil {
		return nil, err
	}
	k.clsact = cfg.older || !haveTCX(k.prog["svc_ingress"])
	return k, nil
}

// load makes copies of the programs for the given maps, in place of those of k; what is missing of the maps is made.
func (k *kernel) load(have map[string]*ebpf.Map) error {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(code))
	if err != nil {
		return fmt.Errorf("reading the programs of this binary: %w", err)
	}
	if err := tailor(spec, k.cfg); err != nil {
		return err
	}
	kept := map[string]*ebpf.Map{}
	for name := range spec.Maps {
		if m, ok := have[name]; ok && !strings.HasPrefix(name, ".") { // those with a point hold the programs' constants
			kept[name] = m
		}
	}
	all, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: kept})
	if err != nil {
		return fmt.Errorf("loading programs into the kernel, which takes Linux 5.15 or later and root: %w", err)
	}
	next := &kernel{maps: all.Maps, prog: all.Programs, ids: map[string]ebpf.ProgramID{}}
	if err := next.bind(have); err != nil {
		next.close()
		return err
	}
	k.close()
	k.maps, k.prog, k.ids = next.maps, next.prog, next.ids
	return nil
}

// bind has every program hold all maps: those that are attached are all that outlives the process, and whoever finds one
// of them finds everything.
func (k *kernel) bind(have map[string]*ebpf.Map) error {
	for name, make := range map[string]func() (*ebpf.Map, error){mapMark: newMark, mapQdiscs: newQdiscs} {
		if m, ok := have[name]; ok {
			make = m.Clone
		}
		m, err := make()
		if err != nil {
			return err
		}
		k.maps[name] = m
	}
	for name, p := range k.prog {
		info, err := p.Info()
		if err != nil {
			return fmt.Errorf("asking for program %s: %w", name, err)
		}
		k.ids[name], _ = info.ID()
		for of, m := range k.maps {
			if err := p.BindMap(m); err != nil {
				return fmt.Errorf("binding map %s to program %s: %w", of, name, err)
			}
		}
	}
	return nil
}

// tailor leaves in spec what the kernel can load.
func tailor(spec *ebpf.CollectionSpec, cfg Config) error {
	if err := spec.Variables["scheduler"].Set(uint32(cfg.Scheduler)); err != nil {
		return fmt.Errorf("setting a constant of the programs: %w", err)
	}
	err := features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval)
	if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("asking whether programs can say why they refuse: %w", err)
	}
	if err := spec.Variables["have_retval"].Set(err == nil && !cfg.older); err != nil {
		return fmt.Errorf("setting a constant of the programs: %w", err)
	}
	return forEarly(spec, cfg.XDP)
}

// close gives up the descriptors; what is attached stays in the kernel.
func (k *kernel) close() {
	closeAll(k.maps)
	for _, p := range k.prog {
		p.Close()
	}
}

func (k *kernel) put(e entry) error {
	if err := k.maps[e.table].Put([]byte(e.key), []byte(e.value)); err != nil {
		return fmt.Errorf("writing to map %s: %w", e.table, err)
	}
	return nil
}

func (k *kernel) remove(e entry) error {
	if err := k.maps[e.table].Delete([]byte(e.key)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("removing from map %s: %w", e.table, err)
	}
	return nil
}

// batch is how many entries are read from a map by one system call.
const batch = 4096

// read reads a whole map.
func (k *kernel) read(table string) (map[string]string, error) {
	m := k.maps[table]
	all := map[string]string{}
	buffer := func(size uint32) reflect.Value {
		return reflect.MakeSlice(reflect.SliceOf(reflect.ArrayOf(int(size), reflect.TypeFor[byte]())), batch, batch)
	}
	keys, values := buffer(m.KeySize()), buffer(m.ValueSize())
	for cursor := new(ebpf.MapBatchCursor); ; {
		n, err := m.BatchLookup(cursor, keys.Interface(), values.Interface(), nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("reading map %s: %w", table, err)
		}
		for i := range n {
			all[string(keys.Index(i).Bytes())] = string(values.Index(i).Bytes())
		}
		if err != nil {
			return all, nil // that was the end
		}
	}
}

// store is what holds the maps; a kernel, but in tests of failing writes.
type store interface {
	put(e entry) error
	remove(e entry) error
	read(table string) (map[string]string, error)
}

// write does a step.
func write(to store, s step) error {
	for _, e := range s.puts {
		if err := to.put(e); err != nil {
			return err
		}
	}
	for _, e := range s.removes {
		if err := to.remove(e); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads all maps that follow from a Table.
func readAll(from store) (contents, error) {
	c := contents{}
	for _, table := range tables() {
		var err error
		if c[table], err = from.read(table); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// replaceEntries makes maps whose contents do not follow from a Table hold exactly want.
func replaceEntries(to store, want contents) error {
	for table, entries := range want {
		have, err := to.read(table)
		if err != nil {
			return err
		}
		var s step
		for key, value := range entries {
			if have[key] != value {
				s.puts = append(s.puts, entry{table, key, value})
			}
		}
		for key, value := range have {
			if _, ok := entries[key]; !ok {
				s.removes = append(s.removes, entry{table, key, value})
			}
		}
		if err := write(to, s); err != nil {
			return err
		}
	}
	return nil
}
