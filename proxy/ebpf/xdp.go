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

var errNoLoad = errors.New("it takes Linux 5.18 or later")

// haveXDP says whether the kernel can load the program.
func haveXDP() (bool, error) {
	err := features.HaveProgramHelper(ebpf.XDP, asm.FnXdpLoadBytes)
	if errors.Is(err, ebpf.ErrNotSupported) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking whether the kernel has XDP: %w", err)
	}
	return true, nil
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
	err := errNoLoad
	if k.prog[xdpProgram] != nil {
		err = k.hook("", h)
	}
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
