package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"svcplane/address"
	"svcplane/apiserver"
)

// network fills in the addresses and ranges of the flags, for one address family or two.
func (c *Config) network(o *Options, host Host) error {
	var err error
	if c.ServiceCIDRs, err = parseRanges("service-cidr", o.ServiceCIDR); err != nil {
		return err
	}
	if c.PodCIDRs, err = parseRanges("pod-cidr", o.PodCIDR); err != nil {
		return err
	}
	if len(c.ServiceCIDRs) != len(c.PodCIDRs) {
		return fmt.Errorf("--service-cidr %s and --pod-cidr %s: give both an IPv6 range, or none", o.ServiceCIDR, o.PodCIDR)
	}
	if c.KubernetesIP, err = apiserver.KubernetesServiceIP(c.ServiceCIDRs[0]); err != nil {
		return fmt.Errorf("--service-cidr %s: %w", o.ServiceCIDR, err)
	}
	if c.DNSIPs, err = parseAddrs("dns-ip", o.DNSIP); err != nil {
		return err
	}
	if len(c.DNSIPs) < len(c.ServiceCIDRs) {
		tenth := c.ServiceCIDRs[1].Addr()
		for range 10 {
			tenth = tenth.Next()
		}
		c.DNSIPs = append(c.DNSIPs, tenth)
	}
	if err := c.checkRanges(host); err != nil {
		return err
	}
	return c.nodeIPs(o.NodeIP, host)
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

// nodeIPs takes the node's addresses from the flag, and those that it leaves out from the machine. A machine without any
// has a node, too, which goes by the first addresses of its pod ranges.
func (c *Config) nodeIPs(flag string, host Host) error {
	if flag != "" {
		var err error
		if c.Addresses.Pinned, err = parseAddrs("node-ip", flag); err != nil {
			return err
		}
	}
	for _, ip := range c.Addresses.Pinned {
		if !host.Served && !host.has(ip) {
			return fmt.Errorf("--node-ip %s: no link of this machine has that address: add it, or choose one of %s", ip, host.addrTexts())
		}
	}
	if len(c.Addresses.Pinned) > len(c.PodCIDRs) {
		return fmt.Errorf("--node-ip %s: an IPv6 address needs an IPv6 range in --service-cidr and --pod-cidr", flag)
	}
	for _, pods := range c.PodCIDRs {
		c.Addresses.Spares = append(c.Addresses.Spares, pods.Addr())
	}
	for _, choice := range address.Decide(nil, host.Machine, c.Addresses) {
		if choice.Spare && choice.Addr.Is6() && !host.Served {
			return errors.New("--pod-cidr has an IPv6 range, and this machine has no IPv6 address but loopback and link-local ones: add one, or leave the IPv6 ranges out")
		}
		c.NodeIPs = append(c.NodeIPs, choice.Addr)
	}
	return nil
}

// openBoth makes "every address" mean those of both families on a dual-stack node.
func (c *Config) openBoth() {
	all := []*netip.AddrPort{&c.API, &c.HTTP, &c.HTTPS, &c.Proxy.Health}
	for i := range c.Metrics {
		all = append(all, &c.Metrics[i])
	}
	for _, at := range all {
		if len(c.NodeIPs) == 2 && at.IsValid() && at.Addr() == netip.IPv4Unspecified() {
			*at = netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
		}
	}
}

// checkRanges refuses ranges that would take traffic away from one another or from the machine's networks.
func (c *Config) checkRanges(host Host) error {
	for i, services := range c.ServiceCIDRs {
		pods, ip := c.PodCIDRs[i], c.DNSIPs[i]
		if services.Overlaps(pods) {
			return fmt.Errorf("--service-cidr %s and --pod-cidr %s overlap: choose ranges that do not", services, pods)
		}
		for _, r := range []struct {
			flag string
			cidr netip.Prefix
		}{{"service-cidr", services}, {"pod-cidr", pods}} {
			for _, a := range host.Machine {
				if network := a.Prefix.Masked(); network.Overlaps(r.cidr) && !a.Own {
					return fmt.Errorf("--%s %s overlaps with this machine's network %s: choose another range", r.flag, r.cidr, network)
				}
			}
		}
		if !services.Contains(ip) || ip == c.KubernetesIP {
			return fmt.Errorf("--dns-ip %s: must lie in --service-cidr %s and not be %s, the API's own", ip, services, c.KubernetesIP)
		}
	}
	if len(c.PodCIDRs) == 2 && 128-c.PodCIDRs[1].Bits() < 32-c.PodCIDRs[0].Bits() {
		return fmt.Errorf("--pod-cidr %s is smaller than %s: a pod has one address in each", c.PodCIDRs[1], c.PodCIDRs[0])
	}
	if len(c.DNSIPs) > len(c.ServiceCIDRs) {
		return fmt.Errorf("--dns-ip %s: an IPv6 address needs an IPv6 range in --service-cidr and --pod-cidr", c.DNSIPs[1])
	}
	return nil
}
