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
	"github.com/vishvananda/netlink/nl"
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
// without XDP only time is lost.
func (k *kernel) tryEarly(h hook) {
	err := k.seatEarly(h)
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

// seatEarly attaches the program, in place of one that an earlier process has left, and never in place of another owner's.
func (k *kernel) seatEarly(h hook) error {
	there, err := h.attached(nil)
	if err != nil {
		return err
	}
	s, err := k.standing(h, there)
	if err != nil || s.ours {
		return err
	}
	instead := ebpf.ProgramID(0)
	for _, id := range append(s.rivals, s.older...) {
		instead = id
	}
	return h.setEarly(k.prog[h.program], instead)
}

// early is what is attached to a device for XDP.
func (h hook) early() ([]ebpf.ProgramID, error) {
	l, err := netlink.LinkByIndex(h.ifindex)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking what is attached to %s: %w", h.label(), err)
	}
	if attachedEarly(l) {
		return []ebpf.ProgramID{ebpf.ProgramID(l.Attrs().Xdp.ProgId)}, nil
	}
	return nil, nil
}

// attachedEarly says whether a device has a program for XDP.
func attachedEarly(l netlink.Link) bool {
	x := l.Attrs().Xdp
	return x != nil && x.Attached
}

// setEarly attaches a program in one step: in place of the one that is named, or where there is none; without a program
// it takes that one away. It stays until then, or with its device. Only in the driver: the generic mode makes an skb
// first, which is what tc does.
func (h hook) setEarly(p *ebpf.Program, instead ebpf.ProgramID) error {
	request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = int32(h.ifindex)
	request.AddData(header)
	x := nl.NewRtAttr(unix.IFLA_XDP|unix.NLA_F_NESTED, nil)
	fd, flags := -1, uint32(unix.XDP_FLAGS_DRV_MODE)
	if p != nil {
		fd = p.FD()
	}
	if instead == 0 {
		flags |= unix.XDP_FLAGS_UPDATE_IF_NOEXIST
	} else {
		old, err := ebpf.NewProgramFromID(instead)
		if err != nil {
			return fmt.Errorf("opening program %d, which is to be replaced: %w", instead, err)
		}
		defer old.Close()
		flags |= unix.XDP_FLAGS_REPLACE
		x.AddRtAttr(unix.IFLA_XDP_EXPECTED_FD, nl.Uint32Attr(uint32(old.FD())))
	}
	x.AddRtAttr(unix.IFLA_XDP_FD, nl.Uint32Attr(uint32(fd)))
	x.AddRtAttr(unix.IFLA_XDP_FLAGS, nl.Uint32Attr(flags))
	request.AddData(x)
	if _, err := request.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("attaching to %s: %w", h.label(), err)
	}
	return nil
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
