package ebpf

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"svcplane/proxy"
)

// hook is where a program is attached.
type hook struct {
	name    string
	program string
	attach  ebpf.AttachType
	ifindex int // 0: the cgroup
}

// socketHooks are the hooks of the cgroup.
func socketHooks() []hook {
	return []hook{
		{"recvmsg4", "svc_recvmsg4", ebpf.AttachCGroupUDP4Recvmsg, 0}, {"recvmsg6", "svc_recvmsg6", ebpf.AttachCGroupUDP6Recvmsg, 0},
		{"getpeername4", "svc_getpeer4", ebpf.AttachCgroupInet4GetPeername, 0}, {"getpeername6", "svc_getpeer6", ebpf.AttachCgroupInet6GetPeername, 0},
		{"sock_release", "svc_release", ebpf.AttachCgroupInetSockRelease, 0},
		{"post_bind4", "svc_bind4", ebpf.AttachCGroupInet4PostBind, 0}, {"post_bind6", "svc_bind6", ebpf.AttachCGroupInet6PostBind, 0},
		{"sendmsg4", "svc_sendmsg4", ebpf.AttachCGroupUDP4Sendmsg, 0}, {"sendmsg6", "svc_sendmsg6", ebpf.AttachCGroupUDP6Sendmsg, 0},
		{"connect4", "svc_connect4", ebpf.AttachCGroupInet4Connect, 0}, {"connect6", "svc_connect6", ebpf.AttachCGroupInet6Connect, 0},
	}
}

// packetHooks are the hooks of one network link. Egress is first, so that answers are translated before the first request is.
func packetHooks(ifindex int) []hook {
	return []hook{
		{fmt.Sprintf("egress-%d", ifindex), "svc_egress", ebpf.AttachTCXEgress, ifindex},
		{fmt.Sprintf("ingress-%d", ifindex), "svc_ingress", ebpf.AttachTCXIngress, ifindex},
	}
}

// label is its name for people.
func (h hook) label() string {
	device, err := net.InterfaceByIndex(h.ifindex)
	if h.ifindex == 0 || err != nil {
		return h.name
	}
	return strings.TrimSuffix(h.name, strconv.Itoa(h.ifindex)) + device.Name
}

// packets says whether it is one of packetHooks.
func (h hook) packets() bool {
	return h.attach == ebpf.AttachTCXEgress || h.attach == ebpf.AttachTCXIngress
}

// served says whether packets of a link are looked at: all that have an Ethernet header, but not the ports of
// a bridge, whose packets come by on the bridge.
func served(l netlink.Link) bool {
	attrs := l.Attrs()
	return attrs.EncapType == "ether" && attrs.MasterIndex == 0 && attrs.Name != "lo"
}

// hooks are all that there are to be, and the links of this network namespace.
func (d *Dataplane) hooks() ([]hook, []netlink.Link, error) {
	links, err := linkList()
	if err != nil {
		return nil, nil, err
	}
	var defaults []int
	if d.cfg.XDP {
		if defaults, err = defaultLinks(); err != nil {
			return nil, nil, err
		}
	}
	var all []hook
	for _, l := range links {
		if !served(l) {
			continue
		}
		all = append(all, packetHooks(l.Attrs().Index)...)
		if d.cfg.XDP && outward(l, defaults) {
			all = append(all, earlyHook(l.Attrs().Index))
		}
	}
	// the hooks of packets come first: connections that the socket hooks leave to packets need them
	return append(all, socketHooks()...), links, nil
}

// attach attaches the programs of k to all hooks, in place of those of an earlier process, and detaches them from other devices.
func (k *kernel) attach(path string, hooks []hook, links []netlink.Link) error {
	cgroup, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening cgroup %s: %w", path, err)
	}
	defer cgroup.Close()
	if err = k.seatAll(cgroup, hooks); errors.Is(err, errBehind) {
		if err = k.load(k.maps); err == nil {
			err = k.seatAll(cgroup, hooks)
		}
	}
	if err != nil {
		return err
	}
	if err := k.leave(hooks, links); err != nil {
		return err
	}
	return k.gather(cgroup)
}

func (k *kernel) seatAll(cgroup *os.File, hooks []hook) error {
	k.refused = map[string]error{}
	for _, h := range hooks {
		var err error
		switch {
		case h.attach == ebpf.AttachXDP:
			k.tryEarly(h)
		case k.clsact && h.packets():
			err = k.setFilter(h)
		default:
			err = k.seat(cgroup, h)
		}
		if h.ifindex != 0 && errors.Is(err, unix.ENODEV) {
			continue // it went since it was listed
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leave detaches programs of this layout from devices that are not served, or not by XDP, any more.
func (k *kernel) leave(hooks []hook, links []netlink.Link) error {
	wanted, filtered := map[hook]bool{}, map[int]bool{}
	for _, h := range hooks {
		wanted[h] = true
		filtered[h.ifindex] = filtered[h.ifindex] || h.packets()
	}
	var problems []error
	for _, l := range links {
		for _, h := range append(packetHooks(l.Attrs().Index), earlyHook(l.Attrs().Index)) {
			if !wanted[h] && (h.packets() || attachedEarly(l)) {
				problems = append(problems, k.leaveOne(h))
			}
		}
	}
	if k.clsact {
		problems = append(problems, k.removeFilters(func(f *netlink.BpfFilter) bool { return !filtered[f.LinkIndex] }))
	}
	return errors.Join(problems...)
}

func (k *kernel) leaveOne(h hook) error {
	there, err := h.attached(nil)
	if err != nil {
		return err
	}
	s, err := k.standing(h, there)
	if err != nil {
		return err
	}
	if s.ours {
		s.rivals = append(s.rivals, k.ids[h.program])
	}
	for _, id := range s.rivals {
		err = errors.Join(err, h.drop(nil, id))
	}
	return err
}

// gather detaches programs of this layout from other cgroups, where a process with another --cgroup has left them, and fails
// if programs of another start still have effect, which are attached to a cgroup that this process does not see.
func (k *kernel) gather(cgroup *os.File) error {
	if k.gathered {
		return nil
	}
	inv, err := takeInventory()
	if err != nil {
		return err
	}
	k.found = inv
	left := programs{}
	for id, p := range inv.own {
		if p.current() && p.sockets() && k.ids[p.name] != id {
			left[id] = p
		}
	}
	if err := eachSeat(left, func(cgroup *os.File, h hook, id ebpf.ProgramID) error { return h.drop(cgroup, id) }); err != nil {
		return fmt.Errorf("removing what an earlier start has attached to another cgroup: %w", err)
	}
	for _, h := range socketHooks() {
		if err := k.above(cgroup, h); err != nil {
			return err
		}
	}
	k.gathered = true
	return nil
}

// above is an error if programs of another start are attached to a cgroup above, beyond the reach of this process:
// those in cgroups that it sees were detached before. They are made draining, so that others can serve.
func (k *kernel) above(cgroup *os.File, h hook) error {
	found, err := link.QueryPrograms(link.QueryOptions{Target: int(cgroup.Fd()), Attach: h.attach, QueryFlags: unix.BPF_F_QUERY_EFFECTIVE})
	if err != nil {
		return fmt.Errorf("asking what has effect at %s: %w", h.label(), err)
	}
	for _, there := range found.Programs {
		p, own := k.found.own[there.ID]
		if !own || !p.current() || k.ids[h.program] == p.id {
			continue
		}
		return errors.Join(fmt.Errorf("an earlier start has attached %s to a cgroup above %s, where this process cannot replace it: run `svcplane cleanup` in the container, or on the machine, where it was started",
			p.name, cgroup.Name()), p.retire())
	}
	return nil
}

// retire makes the programs that share the maps of this one leave new connections to others.
func (p program) retire() error {
	m, err := ebpf.NewMapFromID(p.maps[mapConfig])
	if err != nil {
		return fmt.Errorf("opening the settings of %s: %w", p.name, err)
	}
	defer m.Close()
	if err := putSetting(m, roleOffset, uint32(proxy.Draining)); err != nil {
		return fmt.Errorf("making %s leave new connections to others: %w", p.name, err)
	}
	return nil
}

// cgroupRoot finds the root of the cgroup v2 hierarchy in the text of /proc/self/mounts.
func cgroupRoot(mounts string) (string, bool) {
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) > 2 && fields[2] == "cgroup2" {
			return strings.ReplaceAll(fields[1], `\040`, " "), true
		}
	}
	return "", false
}
