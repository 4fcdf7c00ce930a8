package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// programPrefix begins the name of every program of bpf/svcplane.c.
	programPrefix = "svc_"
	// markPrefix begins the name of a map that is bound to all of them; layoutVersion comes after it. It holds the loopback
	// device, which the kernel takes out when that goes, and loopback goes with its network namespace only.
	markPrefix = "svcplane_"
)

// program is one of svcplane's that the kernel has loaded, of any process and version.
type program struct {
	id   ebpf.ProgramID
	name string
	kind ebpf.ProgramType
	maps map[string]ebpf.MapID // by their present names
}

// layout is the layout of its maps; empty for versions that had no mark.
func (p program) layout() string {
	for name := range p.maps {
		if version, ok := strings.CutPrefix(name, markPrefix); ok {
			return version
		}
	}
	return ""
}

// current says whether a program of this binary can take its place and its maps.
func (p program) current() bool { return p.layout() == layoutVersion }

// sockets says whether it is for hooks of a cgroup.
func (p program) sockets() bool {
	return p.kind == ebpf.CGroupSockAddr || p.kind == ebpf.CGroupSock
}

type programs map[ebpf.ProgramID]program

// inventory is what the kernel has loaded: nothing but the kernel is asked, so it is the same in every mount namespace.
type inventory struct {
	all map[ebpf.ProgramID]bool
	// own are svcplane's of this network namespace, orphans those of network namespaces that are gone
	own, orphans programs
}

// older are those of another layout, which serve until this process has a role.
func (i inventory) older() programs {
	all := programs{}
	for id, p := range i.own {
		if !p.current() {
			all[id] = p
		}
	}
	return all
}

// takeInventory goes through all programs of the kernel.
func takeInventory() (inventory, error) {
	inv := inventory{map[ebpf.ProgramID]bool{}, programs{}, programs{}}
	cookie, err := namespaceCookie()
	if err != nil {
		return inv, err
	}
	reader := mapReader{cookie, map[ebpf.MapID]string{}, map[ebpf.MapID]home{}}
	var others []program
	for id := ebpf.ProgramID(0); ; {
		id, err = ebpf.ProgramGetNextID(id)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return inv, fmt.Errorf("asking the kernel which programs are loaded, which takes root with CAP_SYS_ADMIN: %w", err)
		}
		inv.all[id] = true
		p, err := reader.program(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is not ours, or went meanwhile
		}
		if err != nil {
			return inv, fmt.Errorf("asking the kernel about program %d: %w", id, err)
		}
		switch home, err := reader.home(p); {
		case err != nil:
			return inv, fmt.Errorf("asking the kernel about the maps of program %d: %w", id, err)
		case home == homeHere:
			inv.own[id] = p
		case home == homeGone:
			inv.orphans[id] = p
		default:
			others = append(others, p)
		}
	}
	inv.addKin(others)
	return inv, nil
}

// addKin adds those that share maps with programs of this network namespace: before they were marked, not all had the
// map that says so.
func (i inventory) addKin(others []program) {
	ours := map[ebpf.MapID]bool{}
	for _, p := range i.own {
		for _, id := range p.maps {
			ours[id] = true
		}
	}
	for _, p := range others {
		for _, id := range p.maps {
			if ours[id] {
				i.own[p.id] = p
			}
		}
	}
}

// home is to which network namespace a program belongs.
type home int

const (
	homeElsewhere home = iota
	homeHere
	homeGone
)

// mapReader reads of each map once what many programs share.
type mapReader struct {
	cookie uint64
	names  map[ebpf.MapID]string
	homes  map[ebpf.MapID]home
}

// program is fs.ErrNotExist when it is not svcplane's or not there any more.
func (r mapReader) program(id ebpf.ProgramID) (program, error) {
	loaded, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return program{}, err
	}
	defer loaded.Close()
	info, err := loaded.Info()
	if err != nil {
		return program{}, err
	}
	if !strings.HasPrefix(info.Name, programPrefix) {
		return program{}, fs.ErrNotExist
	}
	p := program{id, info.Name, info.Type, map[string]ebpf.MapID{}}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		name, known := r.names[id]
		if !known {
			if name, err = mapName(id); err != nil {
				return p, err
			}
			name = presentName(name)
			r.names[id] = name
		}
		p.maps[name] = id
	}
	return p, nil
}

func mapName(id ebpf.MapID) (string, error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return "", err
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return "", err
	}
	return info.Name, nil
}

// home looks into the map of network namespaces, which has an entry of the node's own, and at the mark.
func (r mapReader) home(p program) (home, error) {
	for name, id := range p.maps {
		if name != mapNetns && !strings.HasPrefix(name, markPrefix) {
			continue
		}
		where, known := r.homes[id]
		if !known {
			m, err := ebpf.NewMapFromID(id)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return homeElsewhere, err
			}
			if where, err = r.homeIn(name, m); err != nil {
				return homeElsewhere, errors.Join(err, m.Close())
			}
			r.homes[id] = where
			m.Close()
		}
		if where != homeElsewhere {
			return where, nil
		}
	}
	return homeElsewhere, nil
}

func (r mapReader) homeIn(name string, m *ebpf.Map) (home, error) {
	if name != mapNetns {
		var index uint32
		err := m.Lookup(uint32(0), &index)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return homeGone, nil
		}
		return homeElsewhere, err
	}
	var value []byte
	err := m.Lookup(r.cookie, &value)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return homeElsewhere, nil
	}
	if err == nil && native.Uint32(value[len(value)-4:]) == hostKind {
		return homeHere, nil
	}
	return homeElsewhere, err
}

// newMark makes the map that programs of this layout are known by. An empty one says that the network namespace is
// gone, so it is filled before anybody sees it.
func newMark() (*ebpf.Map, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("looking for the loopback device: %w", err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: mapMark, Type: ebpf.DevMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("making a map of devices: %w", err)
	}
	if err := m.Put(uint32(0), uint32(lo.Attrs().Index)); err != nil {
		return nil, errors.Join(fmt.Errorf("noting the loopback device: %w", err), m.Close())
	}
	return m, nil
}

// newQdiscs makes the map of devices that were given a qdisc for filters (clsact.go).
func newQdiscs() (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: mapQdiscs, Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1 << 12, Flags: unix.BPF_F_NO_PREALLOC})
	if err != nil {
		return nil, fmt.Errorf("making a map for notes about qdiscs: %w", err)
	}
	return m, nil
}

// openMaps opens those of a program of this layout.
func (p program) openMaps() (map[string]*ebpf.Map, error) {
	all := map[string]*ebpf.Map{}
	for name, id := range p.maps {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("opening map %s of the programs that are attached: %w", name, err)
		}
		all[name] = m
	}
	return all, nil
}

func closeAll(all map[string]*ebpf.Map) {
	for _, m := range all {
		m.Close()
	}
}
