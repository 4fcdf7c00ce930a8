package server

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"svcplane/address"
	"svcplane/apiserver"
	"svcplane/node"
)

// Complete fills in what follows from the choices and from the machine, and refuses what cannot work together. Errors name the
// flag of `svcplane server` that sets what is wrong.
func (c *Config) Complete(host Host) error {
	if err := c.completeRanges(host); err != nil {
		return err
	}
	if err := c.completeName(host); err != nil {
		return err
	}
	if now := address.New(address.Config{}, host.Machine).State(); len(c.Proxy.nodePortAddrs(now)) == 0 && len(c.Proxy.NodePortRanges) > 0 && !host.Served {
		return fmt.Errorf("--node-port-addresses %v: no address of this machine lies in them: choose among %s", c.Proxy.NodePortRanges, host.addrTexts())
	}
	c.openBoth()
	if err := node.CheckReserved(c.Capacity, c.SystemReserved, c.KubeReserved); err != nil {
		return err
	}
	return c.checkMetrics()
}

// completeName takes the name that the node had before, or the host's.
func (c *Config) completeName(host Host) error {
	c.NodeName = cmp.Or(c.NodeName, host.Node, strings.ToLower(host.Name))
	if problems := validation.IsDNS1123Subdomain(c.NodeName); len(problems) > 0 {
		return fmt.Errorf("node name %q: %s: give another with --node-name", c.NodeName, problems[0])
	}
	return nil
}

// sameNode refuses another name than the node of the data directory has.
func (c *Config) sameNode(host Host) error {
	if host.Node == "" || c.NodeName == host.Node {
		return nil
	}
	return fmt.Errorf("--node-name %s: the node of this data directory is called %s, and its pods and volumes are bound to that: start with --node-name %s, "+
		"or give it up by `svcplane cleanup`, and by `svcplane kubectl delete node %s` after the start: what it had on its volumes is bound to it for good", c.NodeName, host.Node, host.Node, host.Node)
}

// completeRanges fills in the addresses that follow from the ranges, for one address family or two.
func (c *Config) completeRanges(host Host) error {
	if len(c.ServiceCIDRs) != len(c.PodCIDRs) {
		return fmt.Errorf("--service-cidr %s and --pod-cidr %s: give both an IPv6 range, or none", joined(c.ServiceCIDRs), joined(c.PodCIDRs))
	}
	var err error
	if c.KubernetesIP, err = apiserver.KubernetesServiceIP(c.ServiceCIDRs[0]); err != nil {
		return fmt.Errorf("--service-cidr %s: %w", joined(c.ServiceCIDRs), err)
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
	return c.completeAddresses(host)
}

// joined writes ranges as flags take them.
func joined[T fmt.Stringer](all []T) string {
	var texts []string
	for _, a := range all {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ",")
}

// completeAddresses takes the node's addresses from the choices, and those that they leave out from the machine. A machine
// without any has a node, too, which goes by the first addresses of its pod ranges.
func (c *Config) completeAddresses(host Host) error {
	for _, ip := range c.Addresses.Pinned {
		if !host.Served && !host.has(ip) {
			return fmt.Errorf("--node-ip %s: no link of this machine has that address: add it, or choose one of %s", ip, host.addrTexts())
		}
	}
	if len(c.Addresses.Pinned) > len(c.PodCIDRs) {
		return fmt.Errorf("--node-ip %s: an IPv6 address needs an IPv6 range in --service-cidr and --pod-cidr", joined(c.Addresses.Pinned))
	}
	c.Addresses.Spares, c.NodeIPs = nil, nil
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
