package ebpf

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const xdpProgram = "svc_xdp"

// forEarly leaves in spec what the kernel can load. That a packet may be in several pieces, as it is where links carry
// more than a page, came with Linux 5.18, as did a helper that can be asked for; before, drivers refuse such links.
func forEarly(spec *ebpf.CollectionSpec, wanted bool) error {
	if !wanted {
		delete(spec.Programs, xdpProgram)
		return nil
	}
	err := features.HaveProgramHelper(ebpf.XDP, asm.FnXdpLoadBytes)
	if errors.Is(err, ebpf.ErrNotSupported) {
		spec.Programs[xdpProgram].Flags &^= unix.BPF_F_XDP_HAS_FRAGS
		return nil
	}
	if err != nil {
		return fmt.Errorf("asking what XDP can do here: %w", err)
	}
	return nil
}

// earlyHook is where packets that come to a device are dropped before anything else.
func earlyHook(ifindex int) hook {
	return hook{fmt.Sprintf("xdp-%d", ifindex), xdpProgram, ebpf.AttachXDP, ifindex}
}

// outward says whether a link leads away from the node: a network card, or whatever else a default route goes by.
func outward(l netlink.Link, defaults []int) bool {
	return l.Type() == "device" || slices.Contains(defaults, l.Attrs().Index)
}

// defaultLinks are the indexes of those that default routes go by.
func defaultLinks() ([]int, error) {
	var links []int
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
		if err != nil {
			return nil, fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range routes {
			if !everywhere(r.Dst) {
				continue
			}
			links = append(links, r.LinkIndex)
			for _, hop := range r.MultiPath {
				links = append(links, hop.LinkIndex)
			}
		}
	}
	return links, nil
}

func everywhere(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0
}

// tryEarly attaches to a device if its driver can, and notes why not: packets are looked at again by tc, so that
// nothing but time is lost without.
func (k *kernel) tryEarly(h hook) {
	err := k.hook("", h)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		err = errors.New("its driver has none")
	case errors.Is(err, unix.EBUSY):
		err = errors.New("somebody else has a program there")
	case err == nil:
		return
	}
	name := strconv.Itoa(h.ifindex)
	if device, err := net.InterfaceByIndex(h.ifindex); err == nil {
		name = device.Name
	}
	k.refused[h.name] = fmt.Errorf("%s: %w", name, err)
}

// withoutEarly is one line about the hooks that were refused; empty when there are none.
func (k *kernel) withoutEarly() string {
	var all []string
	for _, err := range k.refused {
		all = append(all, err.Error())
	}
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return "no XDP: " + strings.Join(all, "; ")
}
