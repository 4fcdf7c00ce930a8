package dns

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

const (
	dnsPort         = 53
	systemdStub     = "127.0.0.53"
	systemdResolved = "/run/systemd/resolve/resolv.conf"
)

// upstreamsOf reads the nameserver lines of a resolv.conf(5), without our own addresses. The stub of
// systemd-resolved is replaced by the servers that it asks itself.
func upstreamsOf(path string, own []netip.Addr) ([]netip.AddrPort, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading upstream servers from %s, name another file or give the servers themselves: %w", path, err)
	}
	found := parseResolvConf(string(text))
	if slices.ContainsFunc(found, func(a netip.Addr) bool { return a.String() == systemdStub }) {
		if real, err := os.ReadFile(systemdResolved); err == nil {
			found = parseResolvConf(string(real))
		}
	}
	var upstreams []netip.AddrPort
	for _, addr := range found {
		if !slices.Contains(own, addr) {
			upstreams = append(upstreams, netip.AddrPortFrom(addr, dnsPort))
		}
	}
	return upstreams, nil
}

func parseResolvConf(text string) []netip.Addr {
	var found []netip.Addr
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil && !slices.Contains(found, addr.Unmap()) {
			found = append(found, addr.Unmap())
		}
	}
	return found
}
