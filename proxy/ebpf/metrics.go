package ebpf

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"svcplane/metrics"
	"svcplane/proxy"
)

// reasons are the names of enum reason in bpf/maps.h, in its order.
var reasons = []string{
	"socket_translated", "socket_refused", "flow_made", "packet_refused", "packet_out_of_source_ranges", "packet_dropped_by_policy",
	"packet_dropped_without_port", "packet_malformed", "node_port_kept",
	"uncounted",
}

// What is known of each port of a Service; endpoint is "gone" for all that it had once.
var (
	ofPort            = []string{"namespace", "service", "port_name", "protocol"}
	ofEndpoint        = append(slices.Clone(ofPort), "endpoint")
	ofDirection       = append(slices.Clone(ofEndpoint), "direction")
	connectionsMetric = metrics.New(metrics.Counter, "svcplane_service_connections_total",
		"Connections, and first datagrams, that the eBPF programs gave to an endpoint.", ofEndpoint...)
	refusedMetric = metrics.New(metrics.Counter, "svcplane_service_refused_total",
		"Connections and datagrams that the eBPF programs refused because there was no endpoint.", ofPort...)
	packetsMetric = metrics.New(metrics.Counter, "svcplane_service_packets_total",
		"Packets to (sent) and from (received) an endpoint that the eBPF programs translated; what is connected at the socket has none.", ofDirection...)
	bytesMetric = metrics.New(metrics.Counter, "svcplane_service_bytes_total", "Octets of those packets, with IP headers.", ofDirection...)
)

var eventsMetric = metrics.New(metrics.Counter, "svcplane_ebpf_events_total",
	"What the eBPF programs did, by name: sockets and packets translated, refused and dropped.", "event")

// Families are all that a Dataplane collects.
func Families() []*metrics.Family {
	return []*metrics.Family{eventsMetric, connectionsMetric, refusedMetric, packetsMetric, bytesMetric}
}

// Describe is prometheus.Collector's.
func (d *Dataplane) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, Families()) }

// Collect reads the counters that the programs keep on each CPU; none while nothing is loaded.
func (d *Dataplane) Collect(to chan<- prometheus.Metric) {
	for name, n := range d.events() {
		to <- eventsMetric.Value(float64(n), name)
	}
	all, err := d.counters()
	if err != nil {
		to <- connectionsMetric.Invalid(err)
		return
	}
	for _, t := range all {
		collect(to, t)
	}
}

// collect gives what there was of one endpoint, or of those that are gone, or of what was refused.
func collect(to chan<- prometheus.Metric, t proxy.Tally) {
	key, portName, _ := proxy.SplitOrigin(t.Origin)
	send := func(f *metrics.Family, n uint64, more ...string) {
		if n > 0 {
			labels := append([]string{key.Namespace, key.Name, portName, string(t.Protocol)}, more...)
			to <- f.Value(float64(n), labels...)
		}
	}
	if t.Subject == proxy.Refused {
		send(refusedMetric, t.Total)
		return
	}
	endpoint := t.Subject.String()
	if t.Subject == proxy.Serving {
		endpoint = t.Endpoint.String()
	}
	send(connectionsMetric, t.Total, endpoint)
	for direction, v := range map[string]proxy.Volume{"sent": t.Sent, "received": t.Received} {
		send(packetsMetric, v.Packets, endpoint, direction)
		send(bytesMetric, v.Bytes, endpoint, direction)
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
		if err := d.kernel.maps[mapEventCounters].Lookup(uint32(i), &cpus); err != nil {
			return nil // the next reading may work; there is nobody to tell
		}
		for _, n := range cpus {
			all[name] += n
		}
	}
	return all
}
