package ebpf

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
)

// layoutVersion changes whenever a map of an older version cannot be used any more.
const layoutVersion = "v4"

// kernel is the programs and maps, loaded and pinned; the links are in links.go.
type kernel struct {
	dir  string
	maps map[string]*ebpf.Map
	prog map[string]*ebpf.Program // nil when only opened for reading
	// clsact says that packets come by filters of qdiscs, tcx being missing
	clsact bool
	// refused says why hooks of XDP could not be attached, by the name of the hook
	refused map[string]error
}

// instance is the directory of all layouts.
func (k *kernel) instance() string { return filepath.Dir(k.dir) }

// instanceDir is where the instance that works in this network namespace keeps its pins.
func instanceDir(root string) (string, error) {
	cookie, err := namespaceCookie()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "svcplane", fmt.Sprintf("ns-%d", cookie)), nil
}

// load brings programs and maps into the kernel; maps that an earlier process pinned are taken over.
func load(cfg Config, dir string) (*kernel, error) {
	if err := ensureBPFFS(cfg.Root); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lifting the limit on locked memory, run as root: %w", err)
	}
	pins := filepath.Join(dir, layoutVersion)
	for _, sub := range []string{"maps", "links"} {
		if err := os.MkdirAll(filepath.Join(pins, sub), 0o700); err != nil {
			return nil, fmt.Errorf("making a directory for pins: %w", err)
		}
	}
	removeOrphans(cfg.Root, dir)
	if err := noteNamespace(dir); err != nil {
		return nil, err
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("reading the programs of this binary: %w", err)
	}
	if err := tailor(spec, cfg); err != nil {
		return nil, err
	}
	all, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: filepath.Join(pins, "maps")}})
	if err != nil {
		return nil, fmt.Errorf("loading programs into the kernel, which takes Linux 5.15 or later and root: %w", err)
	}
	return &kernel{dir: pins, maps: all.Maps, prog: all.Programs, clsact: cfg.older || !haveTCX(all.Programs["svc_ingress"])}, nil
}

// tailor leaves in spec what the kernel can load, and says which of the maps outlive the programs.
func tailor(spec *ebpf.CollectionSpec, cfg Config) error {
	for name, m := range spec.Maps {
		if !strings.HasPrefix(name, ".") { // those with a point hold the programs' constants
			m.Pinning = ebpf.PinByName
		}
	}
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

// openPinned opens the maps that another process has left; nil when there are none.
func openPinned(dir string) (*kernel, error) {
	pins := filepath.Join(dir, layoutVersion)
	k := &kernel{dir: pins, maps: map[string]*ebpf.Map{}}
	for _, name := range tables() {
		m, err := ebpf.LoadPinnedMap(filepath.Join(pins, "maps", name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			k.close()
			return nil, nil
		}
		if err != nil {
			k.close()
			return nil, fmt.Errorf("opening map %s below %s: %w", name, pins, err)
		}
		k.maps[name] = m
	}
	return k, nil
}

// close gives up the descriptors; what is pinned stays in the kernel.
func (k *kernel) close() {
	for _, m := range k.maps {
		m.Close()
	}
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
	room := func(size uint32) reflect.Value {
		return reflect.MakeSlice(reflect.SliceOf(reflect.ArrayOf(int(size), reflect.TypeFor[byte]())), batch, batch)
	}
	keys, values := room(m.KeySize()), room(m.ValueSize())
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

// settle makes the maps of names, which are not of a Table, hold exactly want.
func settle(to store, want contents) error {
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
