package figures

import "svcplane/metrics"

// Families of cAdvisor, as the kubelet of 1.36 labels them. Those of a whole pod have an empty container, those of the
// machine the id "/".
var (
	ofContainer = []string{"container", "id", "image", "name", "namespace", "pod"}
	ofLink      = []string{"container", "id", "image", "interface", "name", "namespace", "pod"}

	cpu = metrics.New(metrics.Counter, "container_cpu_usage_seconds_total",
		"Time of processors that was used.", append(ofContainer[:6:6], "cpu")...)
	workingSet = metrics.New(metrics.Gauge, "container_memory_working_set_bytes",
		"Memory of the container's processes; what they share is divided among them.", ofContainer...)
	rss = metrics.New(metrics.Gauge, "container_memory_rss",
		"Of it, memory that belongs to no file, in octets.", ofContainer...)
	processes = metrics.New(metrics.Gauge, "container_processes", "Processes.", ofContainer...)
	started   = metrics.New(metrics.Gauge, "container_start_time_seconds",
		"When it was started, in Unix time.", ofContainer...)
	seen = metrics.New(metrics.Gauge, "container_last_seen",
		"When it was measured, in Unix time.", ofContainer...)
	received = metrics.New(metrics.Counter, "container_network_receive_bytes_total",
		"Octets that the pod received.", ofLink...)
	receiveErr = metrics.New(metrics.Counter, "container_network_receive_errors_total",
		"Packets that the pod could not receive.", ofLink...)
	sent = metrics.New(metrics.Counter, "container_network_transmit_bytes_total",
		"Octets that the pod sent.", ofLink...)
	sendErr = metrics.New(metrics.Counter, "container_network_transmit_errors_total",
		"Packets that the pod could not send.", ofLink...)
	cores  = metrics.New(metrics.Gauge, "machine_cpu_cores", "Processors of the machine.")
	memory = metrics.New(metrics.Gauge, "machine_memory_bytes", "Memory of the machine.")
)

// Families of the resource endpoint (KEP-727).
var (
	short = []string{"container", "pod", "namespace"}

	nodeCPU      = metrics.New(metrics.Counter, "node_cpu_usage_seconds_total", "Time of processors that the machine used.")
	nodeMemory   = metrics.New(metrics.Gauge, "node_memory_working_set_bytes", "Memory of the machine that is not available.")
	containerCPU = metrics.New(metrics.Counter, "container_cpu_usage_seconds_total",
		"Time of processors that the container used.", short...)
	containerMem = metrics.New(metrics.Gauge, "container_memory_working_set_bytes",
		"Memory of the container's processes.", short...)
	containerTime = metrics.New(metrics.Gauge, "container_start_time_seconds",
		"When the container was started, in Unix time.", short...)
	podCPU = metrics.New(metrics.Counter, "pod_cpu_usage_seconds_total",
		"Time of processors that the pod used.", "pod", "namespace")
	podMemory = metrics.New(metrics.Gauge, "pod_memory_working_set_bytes",
		"Memory of the pod's processes.", "pod", "namespace")
	scrapeError = metrics.New(metrics.Gauge, "resource_scrape_error", "1 if something could not be measured.")
)

// CadvisorFamilies are all of /metrics/cadvisor.
func CadvisorFamilies() []*metrics.Family {
	return []*metrics.Family{cpu, workingSet, rss, processes, started, seen, received, receiveErr, sent, sendErr, cores, memory}
}

// ResourceFamilies are all of /metrics/resource.
func ResourceFamilies() []*metrics.Family {
	return []*metrics.Family{nodeCPU, nodeMemory, containerCPU, containerMem, containerTime, podCPU, podMemory, scrapeError}
}
