package main

import (
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"svcplane/server"
)

// flagMetrics says where metrics are served.
const flagMetrics = "metrics-address"

// metricsOptions are the flags of metrics as they were written.
type metricsOptions struct{ Addresses []string }

func (o *metricsOptions) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.Addresses, flagMetrics, nil, "addresses where Prometheus may scrape /metrics over plain HTTP, such as "+
		"127.0.0.1:9100; at :10249,:9153 the scrape jobs of kube-proxy and CoreDNS find them (default: none)")
}

func (o *metricsOptions) check(c *server.Config) error {
	for _, text := range o.Addresses {
		full := text
		if strings.HasPrefix(text, ":") {
			full = netip.IPv4Unspecified().String() + text
		}
		var at netip.AddrPort
		if err := parseSocket(flagMetrics, full, &at); err != nil {
			return err
		}
		c.Metrics = append(c.Metrics, at)
	}
	return nil
}
