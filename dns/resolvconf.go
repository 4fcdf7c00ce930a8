package dns

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"k8s.io/klog/v2"
)

const (
	dnsPort         = 53
	systemdResolved = "/run/systemd/resolve/resolv.conf"
)

// resolvConf is what a resolv.conf(5) says.
type resolvConf struct {
	servers  []netip.AddrPort
	searches []string
}

// readResolvConf reads a resolv.conf, without our own addresses. The stubs of systemd-resolved (127.0.0.53 and .54)
// are replaced by the servers that it asks itself, which it writes to another file: through the stub every name would
// be cached twice, and one for us would come back to us.
func readResolvConf(path, resolved string, own []netip.Addr) (resolvConf, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return resolvConf{}, fmt.Errorf("reading upstream servers from %s, name another file or give the servers themselves (--dns-upstream): %w", path, err)
	}
	found, searches := parseResolvConf(string(text))
	if slices.ContainsFunc(found, isSystemdStub) {
		if real, err := os.ReadFile(resolved); err == nil {
			behind, _ := parseResolvConf(string(real))
			found = slices.Concat(slices.DeleteFunc(found, isSystemdStub), behind)
		}
	}
	r := resolvConf{searches: searches}
	for i, addr := range found {
		if !slices.Contains(own, addr) && !slices.Contains(found[:i], addr) {
			r.servers = append(r.servers, netip.AddrPortFrom(addr, dnsPort))
		}
	}
	return r, nil
}

func isSystemdStub(addr netip.Addr) bool {
	return addr == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || addr == netip.AddrFrom4([4]byte{127, 0, 0, 54})
}

// parseResolvConf gives the servers in their order and the last list of search domains.
func parseResolvConf(text string) (servers []netip.Addr, searches []string) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if addr, err := netip.ParseAddr(fields[1]); err == nil {
				servers = append(servers, addr.Unmap())
			}
		case "search", "domain":
			searches = fields[1:]
		}
	}
	return servers, searches
}

// useResolvConf takes over what has changed.
func (s *Server) useResolvConf(known, found resolvConf) {
	if !slices.Equal(known.searches, found.searches) {
		s.setSuffixes(found.searches)
	}
	if s.cfg.Upstreams == nil && !slices.Equal(known.servers, found.servers) {
		s.forward.use(found.servers)
		klog.InfoS("DNS upstreams", "servers", found.servers, "from", s.cfg.ResolvConf)
	}
}
