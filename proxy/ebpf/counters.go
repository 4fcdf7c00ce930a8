package ebpf

import (
	"github.com/prometheus/client_golang/prometheus"
)

// reasons are the names of enum reason in bpf/maps.h, in its order.
var reasons = []string{
	"socket_translated", "socket_refused", "flow_made", "packet_refused", "packet_out_of_source_ranges", "packet_dropped_by_policy",
	"packet_dropped_without_port", "packet_malformed", "node_port_kept",
}

var eventsMetric = prometheus.NewDesc("svcplane_ebpf_events_total",
	"What the eBPF programs did, by name: sockets and packets translated, refused and dropped.", []string{"event"}, nil)

// Describe is prometheus.Collector's.
func (d *Dataplane) Describe(to chan<- *prometheus.Desc) { to <- eventsMetric }

// Collect reads the counters that the programs keep on each CPU; none while nothing is loaded.
func (d *Dataplane) Collect(to chan<- prometheus.Metric) {
	for name, n := range d.events() {
		to <- prometheus.MustNewConstMetric(eventsMetric, prometheus.CounterValue, float64(n), name)
	}
}

func (d *Dataplane) events() map[string]uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel == nil {
		return nil
	}
	all := map[string]uint64{}
	for i, name := range reasons {
		var cpus []uint64
		if err := d.kernel.maps[mapCounts].Lookup(uint32(i), &cpus); err != nil {
			return nil // the next reading may work; there is nobody to tell
		}
		for _, n := range cpus {
			all[name] += n
		}
	}
	return all
}
