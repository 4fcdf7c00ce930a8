package ebpf

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Where tcx is missing (before Linux 6.6), the same programs are filters of a clsact qdisc. Such a filter stays until it is
// removed, or until its device is. It is known by its handle and a name that begins with filterName.
const (
	filterName   = "svcplane-"
	filterHandle = 0x5350
	// filterPriority comes after those that people give and before those that the kernel gives, from 0xc000 down.
	filterPriority = 0x5300
)

var sides = [...]uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS}

// layoutNumber is the number in layoutVersion. Filters of an older layout run first, as programs of tcx that are older do: they
// go on with their connections until removeOlder.
func layoutNumber() uint16 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(layoutVersion, "v"), 10, 8) // a constant of this package
	return uint16(n)
}

// haveTCX says whether the kernel takes prog for tcx (Linux 6.6): if so, it looks for the device, which nobody has.
func haveTCX(prog *ebpf.Program) bool {
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: prog, Attach: ebpf.AttachTCXIngress})
	if err == nil {
		l.Close()
	}
	return !errors.Is(err, link.ErrNotSupported)
}

func device(ifindex int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}
}

// parent is the side of the qdisc that a hook is at.
func (h hook) parent() uint32 {
	if h.attach == ebpf.AttachTCXEgress {
		return netlink.HANDLE_MIN_EGRESS
	}
	return netlink.HANDLE_MIN_INGRESS
}

// filter is the filter that a hook should have.
func (h hook) filter() *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: h.ifindex, Parent: h.parent(), Handle: filterHandle,
			Priority: filterPriority + layoutNumber(), Protocol: unix.ETH_P_ALL,
		},
		Name: filterName + layoutVersion + "-" + h.program, DirectAction: true,
	}
}

// found is the filter of h that is in the kernel; nil when there is none.
func (h hook) found() (*netlink.BpfFilter, error) {
	all, err := filters(h.ifindex, h.parent())
	if err != nil {
		return nil, err
	}
	want := h.filter()
	for _, f := range all {
		if own := ownFilter(f); own != nil && own.Name == want.Name && own.Priority == want.Priority {
			return own, nil
		}
	}
	return nil, nil
}

// filters lists those of one side of a device, in all layouts, ours and others'; none where the device is gone or the
// kernel knows no filters.
func filters(ifindex int, parent uint32) ([]netlink.Filter, error) {
	all, err := whole(func() ([]netlink.Filter, error) { return netlink.FilterList(device(ifindex), parent) })
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the filters of link %d: %w", ifindex, err)
	}
	return all, nil
}

// ownFilter is f when it is ours, else nil.
func ownFilter(f netlink.Filter) *netlink.BpfFilter {
	b, ok := f.(*netlink.BpfFilter)
	if !ok || b.Handle != filterHandle || !strings.HasPrefix(b.Name, filterName) {
		return nil
	}
	return b
}

// setFilter puts the program of h into its filter. One that runs another program is given this one in a single step.
func (k *kernel) setFilter(h hook) error {
	prog := k.prog[h.program]
	info, err := prog.Info()
	if err != nil {
		return fmt.Errorf("asking for program %s: %w", h.program, err)
	}
	id, _ := info.ID()
	have, err := h.found()
	if err != nil || have != nil && have.Id == int(id) {
		return err
	}
	set := netlink.FilterReplace
	if have == nil {
		if err := k.makeQdisc(h.ifindex); err != nil {
			return err
		}
		set = netlink.FilterAdd // not in place of somebody else's
	}
	f := h.filter()
	f.Fd = prog.FD()
	if err := set(f); err != nil {
		return fmt.Errorf("attaching to %s as a filter (needs CONFIG_NET_CLS_BPF; a qdisc `ingress`, or a filter with priority %d and handle %d, of somebody else has to go first): %w",
			h.name, f.Priority, f.Handle, err)
	}
	return nil
}

// makeQdisc makes a qdisc where there is none. That it is ours is noted first, because no other program would remove it.
func (k *kernel) makeQdisc(ifindex int) error {
	notes, key := k.maps[mapQdiscs], uint32(ifindex)
	noted := notes.Update(key, uint32(1), ebpf.UpdateNoExist)
	if noted != nil && !errors.Is(noted, ebpf.ErrKeyExist) {
		return fmt.Errorf("noting that a qdisc is made: %w", noted)
	}
	err := netlink.QdiscAdd(clsact(ifindex))
	if errors.Is(err, unix.EEXIST) {
		if noted == nil {
			return notes.Delete(key)
		}
		return nil
	}
	if err != nil {
		return errors.Join(fmt.Errorf("making a qdisc clsact on link %d (needs CONFIG_NET_SCH_INGRESS): %w", ifindex, err), notes.Delete(key))
	}
	return nil
}

// madeQdiscs are the links that were given one.
func madeQdiscs(notes *ebpf.Map) (map[int]bool, error) {
	made := map[int]bool{}
	var index, value uint32
	all := notes.Iterate()
	for all.Next(&index, &value) {
		made[int(index)] = true
	}
	if err := all.Err(); err != nil {
		return nil, fmt.Errorf("reading which qdiscs were made: %w", err)
	}
	return made, nil
}

// removeFilters removes the filters for which unwanted is true, with the qdiscs that were made for them and the notes about those.
func (k *kernel) removeFilters(unwanted func(*netlink.BpfFilter) bool) error {
	made, err := madeQdiscs(k.maps[mapQdiscs])
	if err != nil {
		return err
	}
	before := maps.Clone(made)
	problems := []error{removeFilters(made, unwanted)}
	for index := range before {
		if made[index] {
			continue
		}
		if err := k.maps[mapQdiscs].Delete(uint32(index)); err != nil {
			problems = append(problems, fmt.Errorf("forgetting a qdisc that is gone: %w", err))
		}
	}
	return errors.Join(problems...)
}

func clsact(ifindex int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

// withQdisc are the links of this network namespace that have such a qdisc.
func withQdisc() ([]int, error) {
	qdiscs, err := whole(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(nil) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing qdiscs: %w", err)
	}
	var links []int
	for _, q := range qdiscs {
		if _, ok := q.(*netlink.Clsact); ok {
			links = append(links, q.Attrs().LinkIndex)
		}
	}
	return links, nil
}

// filtersPresent says whether a link of this network namespace has a filter of ours.
func filtersPresent() (bool, error) {
	links, err := withQdisc()
	if err != nil {
		return false, err
	}
	for _, index := range links {
		for _, parent := range sides {
			all, err := filters(index, parent)
			if err != nil {
				return false, err
			}
			if slices.ContainsFunc(all, func(f netlink.Filter) bool { return ownFilter(f) != nil }) {
				return true, nil
			}
		}
	}
	return false, nil
}

// removeFilters takes the filters away for which unwanted is true, on every link of this network namespace, and the
// qdiscs that were made for them: those that are left stay in made.
func removeFilters(made map[int]bool, unwanted func(*netlink.BpfFilter) bool) error {
	links, err := withQdisc()
	if err != nil {
		return err
	}
	var problems []error
	for _, index := range links {
		problems = append(problems, removeFiltersOf(made, index, unwanted))
	}
	// the other notes are about devices that are gone
	maps.DeleteFunc(made, func(index int, _ bool) bool { return !slices.Contains(links, index) })
	return errors.Join(problems...)
}

// gone is what the kernel says of something on a device or qdisc that went meanwhile.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}

func removeFiltersOf(made map[int]bool, ifindex int, unwanted func(*netlink.BpfFilter) bool) error {
	kept := 0
	for _, parent := range sides {
		all, err := filters(ifindex, parent)
		if err != nil {
			return err
		}
		for _, f := range all {
			own := ownFilter(f)
			if own == nil || !unwanted(own) {
				kept++
				continue
			}
			if err := netlink.FilterDel(own); err != nil && !gone(err) {
				return fmt.Errorf("removing filter %s of link %d: %w", own.Name, ifindex, err)
			}
		}
	}
	if !made[ifindex] || kept > 0 {
		return nil
	}
	if err := netlink.QdiscDel(clsact(ifindex)); err != nil && !gone(err) {
		return fmt.Errorf("removing qdisc clsact of link %d: %w", ifindex, err)
	}
	delete(made, ifindex)
	return nil
}
