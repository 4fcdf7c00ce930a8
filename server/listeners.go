package server

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"svcplane/listeners"
)

// The flags by which sockets are known.
const (
	flagAPI     = "api-address"
	flagMetrics = "metrics-address"
	// of sockets at the node's address, which they follow
	flagNode   = "node-ip"
	flagDNSLAN = "dns-lan-domain"
)

// sockets are all that this process listens on for clients, at the addresses that it begins with. A part with a new
// one adds it here.
func (c *Config) sockets() listeners.Set {
	var all listeners.Set
	add := func(part string, at netip.AddrPort, protocol corev1.Protocol, owner, flag string) {
		if at.IsValid() && (part == "" || c.Enabled(part)) {
			all = append(all, listeners.Listener{At: at, Protocol: protocol, Owner: owner, Flag: flag})
		}
	}
	add("", c.API, corev1.ProtocolTCP, "the API", flagAPI)
	for _, at := range c.Metrics {
		add("", at, corev1.ProtocolTCP, "the metrics", flagMetrics)
	}
	add(PartNode, netip.AddrPortFrom(c.NodeIP(), kubeletPort), corev1.ProtocolTCP, "the node's own server", flagNode)
	add(PartProxy, c.Proxy.Health, corev1.ProtocolTCP, "the service proxy's health port", "proxy-health-address")
	add(PartIngress, c.HTTP, corev1.ProtocolTCP, "the ingress", "ingress-http")
	add(PartIngress, c.HTTPS, corev1.ProtocolTCP, "the ingress", "ingress-https")
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		for _, ip := range c.DNSIPs {
			add(PartDNS, netip.AddrPortFrom(ip, dnsPort), protocol, "the cluster's DNS", "dns-ip")
		}
		for _, ip := range c.NodeIPs {
			if c.DNS.LANDomain != "" {
				add(PartDNS, netip.AddrPortFrom(ip, dnsPort), protocol, "the DNS for the LAN", flagDNSLAN)
			}
		}
	}
	add(PartDNS, c.DNS.HTTP, corev1.ProtocolTCP, "the DNS's health port", "dns-http")
	return all
}

// listeners are the sockets as those see them who have to keep off their ports. One that follows the node's address can be
// at any of the machine's tomorrow, and has its port at all of them today.
func (c *Config) listeners() listeners.Set {
	all := c.sockets()
	for i, l := range all {
		if l.Flag == flagNode || l.Flag == flagDNSLAN {
			everywhere := netip.IPv4Unspecified()
			if l.At.Addr().Is6() {
				everywhere = netip.IPv6Unspecified()
			}
			all[i].At = netip.AddrPortFrom(everywhere, l.At.Port())
		}
	}
	return all
}

// checkMetrics refuses a port for metrics that another part of this process has.
func (c *Config) checkMetrics() error {
	all := c.sockets()
	for i, own := range all {
		if own.Flag != flagMetrics {
			continue
		}
		for j, other := range all {
			if i != j && other.Takes(own.At.Addr(), own.At.Port(), own.Protocol) {
				return fmt.Errorf("--%s %s: %s: choose another port", flagMetrics, own.At, other.Refusal())
			}
		}
	}
	return nil
}
