package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // rest_client_* and workqueue_*
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info

	"svcplane/descriptors"
	"svcplane/metrics/scrape"
)

// flagMetrics says where metrics are served.
const flagMetrics = "metrics-address"

// scrapers is how many connections each of the ports has at once, and how many of them are kept for this machine.
const scrapers, ownScrapers = 32, 4

// metricsOptions are the flags of metrics as they were written.
type metricsOptions struct{ Addresses []string }

func (o *metricsOptions) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.Addresses, flagMetrics, nil, "addresses where Prometheus may scrape /metrics over plain HTTP, such as "+
		"127.0.0.1:9100, or :10249,:9153, where jobs for kube-proxy and CoreDNS look (default: none)")
}

func (o *metricsOptions) check() ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	for _, text := range o.Addresses {
		full := text
		if strings.HasPrefix(text, ":") {
			full = netip.IPv4Unspecified().String() + text
		}
		var at netip.AddrPort
		if err := parseInto(flagMetrics, full, &at); err != nil {
			return nil, err
		}
		all = append(all, at)
	}
	return all, nil
}

// checkMetrics refuses a port that another part of this process has.
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

func (h *house) addMetrics(mode func() string) {
	if len(h.cfg.Metrics) == 0 {
		return
	}
	h.add("metrics", scrape.New(scrape.Config{
		Addresses: h.cfg.Metrics, Gatherer: legacyregistry.DefaultGatherer, Mode: mode,
		Listen: func(at netip.AddrPort) (net.Listener, error) {
			l, err := listen(flagMetrics, at)
			if err != nil {
				return nil, err
			}
			return descriptors.Bound(l, scrapers, ownScrapers), nil
		},
	}))
}
