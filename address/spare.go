package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// event is a change of the machine that may concern the node's addresses.
type event struct {
	gone []netip.Addr
}

// listen reports changes until ctx ends; they are gathered while nobody takes them. When the kernel's queue
// of messages overflowed, it subscribes anew: what was missed is found by the next look.
func listen(ctx context.Context, to chan event) {
	for ctx.Err() == nil {
		if err := subscribe(ctx, to); err != nil {
			post(to, event{})
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func subscribe(ctx context.Context, to chan event) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	addrs, links, routes := make(chan netlink.AddrUpdate, 64), make(chan netlink.LinkUpdate, 64), make(chan netlink.RouteUpdate, 64)
	if err := errors.Join(netlink.AddrSubscribe(addrs, ctx.Done()), netlink.LinkSubscribe(links, ctx.Done()), netlink.RouteSubscribe(routes, ctx.Done())); err != nil {
		return err
	}
	post(to, event{}) // what came before this
	for {
		select {
		case <-ctx.Done():
			return nil
		case a, ok := <-addrs:
			if !ok {
				return errors.New("the kernel's reports of addresses ended")
			}
			if a.Scope == unix.RT_SCOPE_UNIVERSE {
				post(to, addrEvent(a))
			}
		case l, ok := <-links:
			if !ok {
				return errors.New("the kernel's reports of links ended")
			}
			if name := l.Attrs().Name; len(name) < len(ownLink) || name[:len(ownLink)] != ownLink { // pods come and go
				post(to, event{})
			}
		case r, ok := <-routes:
			if !ok {
				return errors.New("the kernel's reports of routes ended")
			}
			if isDefault(r.Dst) {
				post(to, event{})
			}
		}
	}
}

func addrEvent(a netlink.AddrUpdate) event {
	if a.NewAddr {
		return event{}
	}
	addr, _ := netip.AddrFromSlice(a.LinkAddress.IP)
	return event{gone: []netip.Addr{addr.Unmap()}}
}

func isDefault(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0
}

// post adds e to what waits in the channel, which holds one.
func post(to chan event, e event) {
	for {
		select {
		case to <- e:
			return
		case before := <-to:
			e.gone = append(before.gone, e.gone...)
		}
	}
}

// addSpares puts the spare addresses that are needed on their link, and says what is wrong; s.mu is held.
func (s *Source) addSpares() string {
	var wanted []netip.Addr
	for _, c := range s.choices {
		if c.Spare {
			wanted = append(wanted, c.Addr)
		}
	}
	if len(wanted) == 0 {
		return ""
	}
	if err := ensureSpares(s.cfg.Link, wanted); err != nil {
		return err.Error()
	}
	return ""
}

// tidy removes spare addresses that nobody goes by any more: not before all have followed.
func (s *Source) tidy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.followers {
		if f.turn != s.turn || f.err != nil {
			return
		}
	}
	var needed []netip.Addr
	for _, c := range s.choices {
		if c.Spare {
			needed = append(needed, c.Addr)
		}
	}
	if err := removeSpares(s.cfg.Link, needed); err != nil {
		s.say(err.Error())
	}
}

// ensureSpares makes a link with the given addresses. A port-less bridge does where the kernel has no dummy links.
func ensureSpares(name string, wanted []netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		link, err = makeLink(name)
	}
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	for _, addr := range wanted {
		if err != nil {
			break
		}
		a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}
		if addr.Is6() {
			a.Flags = unix.IFA_F_NODAD // a link without a carrier would never finish the detection
		}
		err = netlink.AddrReplace(link, a)
	}
	if err != nil {
		return fmt.Errorf("giving the node the address %s on link %s while it has no other, run as root or with CAP_NET_ADMIN: %w", wanted, name, err)
	}
	return nil
}

func makeLink(name string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: attrs})
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(false)})
	}
	if err != nil {
		return nil, err
	}
	return netlink.LinkByName(name)
}

// removeSpares takes all addresses but needed from the link, and the link itself when none is.
func removeSpares(name string, needed []netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil && len(needed) == 0 {
		err = netlink.LinkDel(link)
	} else if err == nil {
		err = removeOthers(link, needed)
	}
	if err != nil {
		return fmt.Errorf("removing spare addresses of the node from link %s: %w", name, err)
	}
	return nil
}

func removeOthers(link netlink.Link, needed []netip.Addr) error {
	present, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range present {
		addr, _ := netip.AddrFromSlice(a.IP)
		if !slices.Contains(needed, addr.Unmap()) && !addr.IsLinkLocalUnicast() {
			errs = append(errs, netlink.AddrDel(link, &a))
		}
	}
	return errors.Join(errs...)
}

// Cleanup removes the link of spare addresses, if it is there.
func Cleanup() error { return removeSpares(defaultLink, nil) }
