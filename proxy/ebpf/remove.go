package ebpf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// remove removes everything of this network namespace, whichever process attached it, and of namespaces that are gone.
func remove() error {
	inv, err := takeInventory()
	if err != nil {
		return err
	}
	made, err := inv.qdiscs()
	if err != nil {
		return err
	}
	all := maps.Clone(inv.own)
	maps.Copy(all, inv.orphans)
	removeOrphanedPins()
	return errors.Join(removeFilters(made, func(*netlink.BpfFilter) bool { return true }), detach(all), removePins())
}

// qdiscs are the links for which one of the programs has noted that their qdisc was made by us.
func (i inventory) qdiscs() (map[int]bool, error) {
	made, read := map[int]bool{}, map[ebpf.MapID]bool{}
	for _, p := range i.own {
		id, ok := p.maps[mapQdiscs]
		if !ok || read[id] {
			continue
		}
		read[id] = true
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, fmt.Errorf("opening the notes about qdiscs: %w", err)
		}
		some, err := madeQdiscs(m)
		m.Close()
		if err != nil {
			return nil, err
		}
		maps.Copy(made, some)
	}
	return made, nil
}

// removeOlder removes what a process with another layout of the maps has left.
func (k *kernel) removeOlder() error {
	inv, err := takeInventory()
	if err != nil {
		return err
	}
	older := func(f *netlink.BpfFilter) bool { return !strings.HasPrefix(f.Name, filterName+layoutVersion+"-") }
	if err := errors.Join(k.removeFilters(older), detach(inv.older()), removePins()); err != nil {
		return err
	}
	maps.DeleteFunc(inv.own, func(_ ebpf.ProgramID, p program) bool { return !p.current() })
	k.found = inv
	return nil
}

// Cleanup removes what an instance of this network namespace left in the kernel, also when none is running, and whatever
// mount namespace it ran in.
func Cleanup() error { return remove() }

// errFound ends a search.
var errFound = errors.New("found")

// Present says whether an instance of this network namespace has something attached.
func Present() (bool, error) {
	inv, err := takeInventory()
	if err != nil {
		return false, err
	}
	if len(inv.own) == 0 {
		return filtersPresent()
	}
	if pins, err := ownPins(); err != nil || len(pins) > 0 {
		return err == nil, err
	}
	err = eachSeat(inv.own, func(*os.File, hook, ebpf.ProgramID) error { return errFound })
	if errors.Is(err, errFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return filtersPresent()
}
