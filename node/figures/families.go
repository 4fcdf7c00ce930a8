package figures

import "svcplane/metrics"

// Families of cAdvisor, as the kubelet of 1.36 labels them. Those of a whole pod have an empty container, those of the
// machine the id "/".
var (
	ofContainer = []string{"container", "id", "image", "name", "namespace", "pod"}
	ofLink      = []string{"container", "id", "image", "interface", "name", "namespace", "pod"}
	ofDisk      = []string{"container", "device", "id", "image", "name", "namespace", "pod"}
	ofMachine   = []string{"boot_id", "machine_id", "system_uuid"}

	cpu        = perContainer(metrics.Counter, "cpu_usage_seconds_total", "Time of processors that was used.", "cpu")
	workingSet = perContainer(metrics.Gauge, "memory_working_set_bytes", "Memory that cannot be taken back at once.")
	taken      = perContainer(metrics.Gauge, "memory_usage_bytes", "Memory with all of the page cache.")
	rss        = perContainer(metrics.Gauge, "memory_rss", "Memory that belongs to no file, in octets.")
	swap       = perContainer(metrics.Gauge, "memory_swap", "Memory that was swapped out, in octets.")
	faults     = perContainer(metrics.Counter, "memory_failures_total", "Faults of pages: all (pgfault), and those that read a disk (pgmajfault).",
		"failure_type", "scope")
	processes = perContainer(metrics.Gauge, "processes", "Processes.")
	started   = perContainer(metrics.Gauge, "start_time_seconds", "When it was started, in Unix time.")
	seen      = perContainer(metrics.Gauge, "last_seen", "When it was measured, in Unix time.")

	shares    = perContainer(metrics.Gauge, "spec_cpu_shares", "Weight by the request, 1024 for a processor.")
	quota     = perContainer(metrics.Gauge, "spec_cpu_quota", "Microseconds of processors in a period, by the limit.")
	period    = perContainer(metrics.Gauge, "spec_cpu_period", "Microseconds of a period.")
	memLimit  = perContainer(metrics.Gauge, "spec_memory_limit_bytes", "The limit of memory; 0: there is none.")
	memSoft   = perContainer(metrics.Gauge, "spec_memory_reservation_limit_bytes", "The soft limit of memory; 0: there is none.")
	swapLimit = perContainer(metrics.Gauge, "spec_memory_swap_limit_bytes", "The limit of swapped memory; 0: there is none.")

	diskUsed   = metrics.New(metrics.Gauge, "container_fs_usage_bytes", "Octets taken of the file system.", ofDisk...)
	diskSize   = metrics.New(metrics.Gauge, "container_fs_limit_bytes", "Octets of the file system.", ofDisk...)
	inodes     = metrics.New(metrics.Gauge, "container_fs_inodes_total", "Inodes of the file system.", ofDisk...)
	inodesFree = metrics.New(metrics.Gauge, "container_fs_inodes_free", "Free inodes of the file system.", ofDisk...)

	received   = metrics.New(metrics.Counter, "container_network_receive_bytes_total", "Octets that the pod received.", ofLink...)
	receiveErr = metrics.New(metrics.Counter, "container_network_receive_errors_total", "Packets that the pod could not receive.", ofLink...)
	sent       = metrics.New(metrics.Counter, "container_network_transmit_bytes_total", "Octets that the pod sent.", ofLink...)
	sendErr    = metrics.New(metrics.Counter, "container_network_transmit_errors_total", "Packets that the pod could not send.", ofLink...)

	cores    = metrics.New(metrics.Gauge, "machine_cpu_cores", "Processors of the machine.", ofMachine...)
	physical = metrics.New(metrics.Gauge, "machine_cpu_physical_cores", "Its cores; threads of one count once.", ofMachine...)
	sockets  = metrics.New(metrics.Gauge, "machine_cpu_sockets", "Its sockets of processors.", ofMachine...)
	memory   = metrics.New(metrics.Gauge, "machine_memory_bytes", "Memory of the machine.", ofMachine...)
	swapSize = metrics.New(metrics.Gauge, "machine_swap_bytes", "Swap of the machine.", ofMachine...)
	failed   = metrics.New(metrics.Gauge, "container_scrape_error", "1 if something could not be measured.")
)

func perContainer(kind metrics.Kind, name, help string, more ...string) *metrics.Family {
	return metrics.New(kind, "container_"+name, help, append(ofContainer[:6:6], more...)...)
}

// Families of the resource endpoint (KEP-727).
var (
	short = []string{"container", "pod", "namespace"}

	nodeCPU      = metrics.New(metrics.Counter, "node_cpu_usage_seconds_total", "Time of processors that the machine used.")
	nodeMemory   = metrics.New(metrics.Gauge, "node_memory_working_set_bytes", "Memory of the machine that is not available.")
	nodeSwap     = metrics.New(metrics.Gauge, "node_swap_usage_bytes", "Memory of the machine that was swapped out.")
	containerCPU = metrics.New(metrics.Counter, "container_cpu_usage_seconds_total",
		"Time of processors that the container used.", short...)
	containerMem = metrics.New(metrics.Gauge, "container_memory_working_set_bytes",
		"Memory of the container that cannot be taken back at once.", short...)
	containerSwap = metrics.New(metrics.Gauge, "container_swap_usage_bytes",
		"Memory of the container that was swapped out.", short...)
	containerSwapLimit = metrics.New(metrics.Gauge, "container_swap_limit_bytes",
		"Swap that the container may have.", short...)
	containerTime = metrics.New(metrics.Gauge, "container_start_time_seconds",
		"When the container was started, in Unix time.", short...)
	podCPU = metrics.New(metrics.Counter, "pod_cpu_usage_seconds_total",
		"Time of processors that the pod used.", "pod", "namespace")
	podMemory = metrics.New(metrics.Gauge, "pod_memory_working_set_bytes",
		"Memory of the pod that cannot be taken back at once.", "pod", "namespace")
	podSwap = metrics.New(metrics.Gauge, "pod_swap_usage_bytes",
		"Memory of the pod that was swapped out.", "pod", "namespace")
	scrapeError = metrics.New(metrics.Gauge, "resource_scrape_error", "1 if something could not be measured.")
)

// Families of claims in /metrics.
var (
	ofClaim = []string{"namespace", "persistentvolumeclaim"}

	claimSize       = metrics.New(metrics.Gauge, "kubelet_volume_stats_capacity_bytes", "Octets of the file system of a claim's volume.", ofClaim...)
	claimAvailable  = metrics.New(metrics.Gauge, "kubelet_volume_stats_available_bytes", "Octets of it that are free.", ofClaim...)
	claimUsed       = metrics.New(metrics.Gauge, "kubelet_volume_stats_used_bytes", "Octets that the volume takes.", ofClaim...)
	claimInodes     = metrics.New(metrics.Gauge, "kubelet_volume_stats_inodes", "Inodes of the file system of a claim's volume.", ofClaim...)
	claimInodesFree = metrics.New(metrics.Gauge, "kubelet_volume_stats_inodes_free", "Inodes of it that are free.", ofClaim...)
	claimInodesUsed = metrics.New(metrics.Gauge, "kubelet_volume_stats_inodes_used", "Inodes that the volume takes.", ofClaim...)
)

// CadvisorFamilies are all of /metrics/cadvisor.
func CadvisorFamilies() []*metrics.Family {
	return []*metrics.Family{cpu, workingSet, taken, rss, swap, faults, processes, started, seen, shares, quota, period, memLimit, memSoft,
		swapLimit, diskUsed, diskSize, inodes, inodesFree, received, receiveErr, sent, sendErr, cores, physical, sockets, memory, swapSize, failed}
}

// ResourceFamilies are all of /metrics/resource.
func ResourceFamilies() []*metrics.Family {
	return []*metrics.Family{nodeCPU, nodeMemory, nodeSwap, containerCPU, containerMem, containerSwap, containerSwapLimit, containerTime,
		podCPU, podMemory, podSwap, scrapeError}
}

// ClaimFamilies are those about claims in /metrics.
func ClaimFamilies() []*metrics.Family {
	return []*metrics.Family{claimSize, claimAvailable, claimUsed, claimInodes, claimInodesFree, claimInodesUsed}
}
