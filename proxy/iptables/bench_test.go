package iptables

import (
	"fmt"
	"testing"
	"time"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// many is n Services of four endpoints; the last one has a single endpoint, which answers.
func many(lab *proxytest.Lab, n int) proxy.Table {
	var all []proxy.Frontend
	for i := range n {
		endpoints := []string{lab.Hosts["a"].IPv4.String() + ":8080"}
		for j := range 3 {
			endpoints = append(endpoints, fmt.Sprintf("10.244.%d.%d:%d", 1+i/200, 1+i%200, 8081+j))
		}
		all = append(all, frontend(fmt.Sprintf("svc%d", i), fmt.Sprintf("10.96.%d.%d:80", i*7919%65536/256, i*7919%256), endpoints...))
	}
	table := proxy.NewTable(all...)
	last := &table.Frontends[n-1]
	last.Endpoints = last.Endpoints[:1]
	return table
}

// BenchmarkSizes reports, for tables of different sizes, the time of a whole write, of one change, of reading
// back, and of a connection to the last Service.
func BenchmarkSizes(b *testing.B) {
	for _, variant := range variants {
		for _, n := range []int{10, 1000, 10000} {
			b.Run(fmt.Sprintf("%s-%d", variant, n), func(b *testing.B) {
				lab := proxytest.NewLab(b)
				table := many(lab, n)
				d := open(b, lab, variant)
				took := map[string]time.Duration{}
				measure := func(what string, f func()) {
					began := time.Now()
					f()
					took[what] = time.Since(began)
				}
				measure("resync-ms", func() { must(b, d.Resync(b.Context(), table)) })
				measure("dump-ms", func() { proxytest.CheckDump(b, d, table) })
				const changes = 8
				measure("8-syncs-ms", func() {
					for _, f := range table.Frontends[:changes] {
						f.Endpoints = append(f.Endpoints[:len(f.Endpoints):len(f.Endpoints)], frontend("", "10.96.0.1:80", "10.244.250.1:80").Endpoints...)
						must(b, d.Sync(b.Context(), proxy.Change{Set: []proxy.Frontend{f}}))
					}
				})
				to := table.Frontends[n-1].Address
				b.ResetTimer()
				for b.Loop() {
					if got, err := lab.Hosts["c"].Dial(to); err != nil || got.Name != "a" {
						b.Fatal(got, err)
					}
				}
				for what, d := range took {
					b.ReportMetric(float64(d.Microseconds())/1000, what)
				}
			})
		}
	}
}
