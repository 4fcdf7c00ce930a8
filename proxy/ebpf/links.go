package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hook is where a program is attached; its pin bears its name.
type hook struct {
	name    string // of the pin
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

// packetHooks are the hooks of one network link. What comes back is translated before anything is sent.
func packetHooks(ifindex int) []hook {
	return []hook{
		{fmt.Sprintf("egress-%d", ifindex), "svc_egress", ebpf.AttachTCXEgress, ifindex},
		{fmt.Sprintf("ingress-%d", ifindex), "svc_ingress", ebpf.AttachTCXIngress, ifindex},
	}
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

// hooks are all that there are to be.
func (d *Dataplane) hooks() ([]hook, error) {
	links, err := linkList()
	if err != nil {
		return nil, err
	}
	var defaults []int
	if d.cfg.XDP {
		if defaults, err = defaultLinks(); err != nil {
			return nil, err
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
	// packets that sockets send translated need nothing; those of the others must be ready before
	return append(all, socketHooks()...), nil
}

// attach puts the programs of k into all hooks, in place of those of an earlier process, and takes links away
// that have lost theirs.
func (k *kernel) attach(cgroup string, hooks []hook) error {
	linked, filtered := map[string]bool{}, map[int]bool{}
	k.refused = map[string]error{}
	for _, h := range hooks {
		var err error
		switch {
		case h.attach == ebpf.AttachXDP:
			k.tryEarly(h)
			linked[h.name] = k.refused[h.name] == nil
		case k.clsact && h.packets():
			err = k.setFilter(h)
			filtered[h.ifindex] = true
		default:
			err = k.hook(cgroup, h)
			linked[h.name] = err == nil
		}
		if h.ifindex != 0 && errors.Is(err, unix.ENODEV) {
			continue // it went since it was listed
		}
		if err != nil {
			return err
		}
	}
	if k.clsact {
		if err := removeFilters(k.instance(), func(f *netlink.BpfFilter) bool { return !filtered[f.LinkIndex] }); err != nil {
			return err
		}
	}
	return k.removeLinks(func(name string) bool { return !linked[name] })
}

// removeLinks takes those away whose names are unwanted.
func (k *kernel) removeLinks(unwanted func(name string) bool) error {
	pinned, err := os.ReadDir(filepath.Join(k.dir, "links"))
	if err != nil {
		return fmt.Errorf("listing the pinned links: %w", err)
	}
	for _, p := range pinned {
		if unwanted(p.Name()) {
			if err := os.Remove(filepath.Join(k.dir, "links", p.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("removing a link that is not needed any more: %w", err)
			}
		}
	}
	return nil
}

func (k *kernel) hook(cgroup string, h hook) error {
	pin := filepath.Join(k.dir, "links", h.name)
	old, err := link.LoadPinnedLink(pin, nil)
	moved := false
	switch {
	case err == nil:
		defer old.Close()
		if moved = h.ifindex == 0 && ofAnother(old, cgroup); moved {
			break
		}
		if attachedTo(old, k.prog[h.program]) || old.Update(k.prog[h.program]) == nil {
			return nil
		}
		// the link's device or cgroup is gone, and another has come in its place
		if err := os.Remove(pin); err != nil {
			return fmt.Errorf("removing a stale link: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("opening link %s: %w", pin, err)
	}
	fresh, err := k.newLink(cgroup, h)
	if err != nil {
		return err
	}
	defer fresh.Close()
	if moved {
		if err := os.Remove(pin); err != nil {
			return fmt.Errorf("removing the link of another cgroup: %w", err)
		}
	}
	if err := fresh.Pin(pin); err != nil {
		return fmt.Errorf("pinning link %s: %w", pin, err)
	}
	return nil
}

// ofAnother says whether a link is to another cgroup, which an earlier process was told.
func ofAnother(l link.Link, cgroup string) bool {
	info, err := l.Info()
	if err != nil || info.Cgroup() == nil {
		return false
	}
	id, err := cgroupID(cgroup)
	return err == nil && info.Cgroup().CgroupId != id
}

// attachedTo says whether a link lives and runs prog.
func attachedTo(l link.Link, prog *ebpf.Program) bool {
	have, err := l.Info()
	if err != nil {
		return false
	}
	want, err := prog.Info()
	if err != nil {
		return false
	}
	id, ok := want.ID()
	if tcx := have.TCX(); tcx != nil && tcx.Ifindex == 0 {
		return false
	}
	if xdp := have.XDP(); xdp != nil && xdp.Ifindex == 0 {
		return false
	}
	return ok && have.Program == id
}

func (k *kernel) newLink(cgroup string, h hook) (link.Link, error) {
	if h.ifindex == 0 {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: h.attach, Program: k.prog[h.program]})
		if err != nil {
			return nil, fmt.Errorf("attaching to %s of cgroup %s, which must be of version 2: %w", h.name, cgroup, err)
		}
		return l, nil
	}
	if h.attach == ebpf.AttachXDP {
		// the generic mode makes an skb first, which is what tc does
		return link.AttachXDP(link.XDPOptions{Interface: h.ifindex, Program: k.prog[h.program], Flags: link.XDPDriverMode})
	}
	for deadline := time.Now().Add(releaseTime); ; time.Sleep(releaseTime / 100) {
		l, err := link.AttachTCX(link.TCXOptions{Interface: h.ifindex, Program: k.prog[h.program], Attach: h.attach})
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, fs.ErrExist) || time.Now().After(deadline) {
			return nil, fmt.Errorf("attaching to %s: %w", h.name, err)
		}
	}
}

// releaseTime is what the kernel may take to release a link whose pin has gone: until then the program is in the hook.
const releaseTime = time.Second

// missingLinks names hooks that have neither a pinned link nor a filter.
func missingLinks(pins string, hooks []hook) ([]string, error) {
	var names []string
	for _, h := range hooks {
		_, err := os.Stat(filepath.Join(pins, "links", h.name))
		if err == nil {
			continue
		}
		if h.packets() {
			f, err := h.found()
			if err != nil {
				return nil, err
			}
			if f != nil {
				continue
			}
		}
		names = append(names, h.name)
	}
	if len(names) == 0 {
		return nil, nil
	}
	return []string{"not attached: " + strings.Join(names, " ")}, nil
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
