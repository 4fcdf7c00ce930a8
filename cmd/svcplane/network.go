package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"svcplane/server"
)

// network reads the addresses and ranges of the flags, for one address family or two.
func (o *Options) network(c *server.Config) error {
	var err error
	if c.ServiceCIDRs, err = parseRanges("service-cidr", o.ServiceCIDR); err != nil {
		return err
	}
	if c.PodCIDRs, err = parseRanges("pod-cidr", o.PodCIDR); err != nil {
		return err
	}
	if c.DNSIPs, err = parseAddrs("dns-ip", o.DNSIP); err != nil {
		return err
	}
	if o.NodeIP != "" {
		c.Addresses.Pinned, err = parseAddrs("node-ip", o.NodeIP)
	}
	return err
}

// parseRanges reads IPv4[,IPv6].
func parseRanges(flag, text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for i, part := range strings.Split(text, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		switch {
		case err != nil:
		case i == 0 && (p != p.Masked() || !p.Addr().Is4() || p.Bits() > 24):
			err = errors.New("must be an IPv4 range with zeros behind its prefix and at least a /24, like 10.96.0.0/16")
		case i == 1 && (p != p.Masked() || !p.Addr().Is6() || p.Bits() < 64 || p.Bits() > 112):
			err = errors.New("the second must be an IPv6 range with zeros behind its prefix, from a /64 to a /112, like fd00:96::/112")
		case i == 2:
			err = errors.New("must be one range, or one of IPv4 and one of IPv6")
		}
		if err != nil {
			return nil, fmt.Errorf("--%s %q: %w", flag, text, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// parseAddrs reads IPv4[,IPv6].
func parseAddrs(flag, text string) ([]netip.Addr, error) {
	var all []netip.Addr
	for i, part := range strings.Split(text, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		switch {
		case err != nil:
		case i > 1 || a.Is4() != (i == 0):
			err = errors.New("must be an IPv4 address, or one and then an IPv6 address")
		}
		if err != nil {
			return nil, fmt.Errorf("--%s %q: %w", flag, text, err)
		}
		all = append(all, a)
	}
	return all, nil
}
