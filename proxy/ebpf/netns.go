package ebpf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace whose sockets are translated, and its own address in each family.
type namespace struct {
	cookie uint64
	host   bool
	v4, v6 netip.Addr
}

// entry is struct netns under its cookie.
func (s namespace) entry() entry {
	kind := uint32(podKind)
	if s.host {
		kind = hostKind
	}
	b := putOptional(putOptional(nil, s.v4), s.v6)
	return entry{mapNetns, string(native.AppendUint64(nil, s.cookie)), string(native.AppendUint32(b, kind))}
}

func putOptional(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(b, make([]byte, 16)...)
	}
	return putAddr(b, a)
}

// namespaceCookie is the kernel's name of the network namespace of this thread.
func namespaceCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("making a socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("reading the cookie of the network namespace (Linux 5.14 or later): %w", err)
	}
	return cookie, nil
}

// PodNamespaces are the files of the network namespaces that pods of any svcplane on this machine have.
func PodNamespaces() ([]string, error) { return filepath.Glob("/run/netns/sp-*") }

// podNamespaces finds out which of the namespaces belong to pods of this node: those at the other end of a link
// that routes addresses of pods lead to.
func podNamespaces(paths []string, routes []podRoute) ([]namespace, error) {
	ends := podEnds(routes)
	if len(ends) == 0 {
		return nil, nil
	}
	var all []namespace
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			continue // it went meanwhile
		}
		nsid, err := netlink.GetNetNsIdByFd(int(file.Fd()))
		if end, ok := ends[nsid]; err == nil && ok {
			end.cookie, err = cookieOf(file)
			all = append(all, end)
		}
		file.Close()
		if errors.Is(err, unix.EINVAL) {
			continue // no namespace is mounted on the file yet, or not any more
		}
		if err != nil {
			return nil, fmt.Errorf("looking into network namespace %s: %w", path, err)
		}
	}
	return all, nil
}

// podRoute leads to one pod: by a link, the other end of which is in a namespace with this number here.
type podRoute struct {
	addr            netip.Addr
	link, namespace int
}

// podRoutes are those of this node.
func podRoutes(pods []netip.Prefix) ([]podRoute, error) {
	links, err := linkList()
	if err != nil {
		return nil, err
	}
	numbers := map[int]int{}
	for _, l := range links {
		if attrs := l.Attrs(); l.Type() == "veth" && attrs.NetNsID >= 0 {
			numbers[attrs.Index] = attrs.NetNsID
		}
	}
	var all []podRoute
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
		if err != nil {
			return nil, fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range routes {
			number, ok := numbers[r.LinkIndex]
			if addr, single := singleAddr(r); ok && single && contains(pods, addr) {
				all = append(all, podRoute{addr, r.LinkIndex, number})
			}
		}
	}
	return all, nil
}

// podEnds are the namespaces, by their number in this one, that routes to pods lead to.
func podEnds(routes []podRoute) map[int]namespace {
	ends := map[int]namespace{}
	for _, r := range routes {
		end := ends[r.namespace]
		if r.addr.Is4() {
			end.v4 = r.addr
		} else {
			end.v6 = r.addr
		}
		ends[r.namespace] = end
	}
	return ends
}

// podLinks are the links that pods of this node are behind, by their addresses.
func podLinks(routes []podRoute) map[string]string {
	all := map[string]string{}
	for _, r := range routes {
		all[string(putAddr(nil, r.addr))] = string(native.AppendUint32(nil, uint32(r.link)))
	}
	return all
}

// linkList lists the links of this network namespace.
func linkList() ([]netlink.Link, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	return links, nil
}

// whole makes a list again if something came or went meanwhile.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 10
	for try := 1; ; try++ {
		all, err := list()
		if try == tries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
}

// singleAddr is the address of a route to one host.
func singleAddr(r netlink.Route) (netip.Addr, bool) {
	if r.Dst == nil {
		return netip.Addr{}, false
	}
	ones, bits := r.Dst.Mask.Size()
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	return addr.Unmap(), ok && ones == bits
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// cookieOf enters a namespace on a thread of its own and reads its cookie.
func cookieOf(file *os.File) (cookie uint64, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if err = netns.Set(netns.NsHandle(file.Fd())); err == nil {
			cookie, err = namespaceCookie()
		}
	}()
	<-done
	return cookie, err
}
