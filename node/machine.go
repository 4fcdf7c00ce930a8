package node

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// capacity is what the configuration says, and else what the machine has. There is no reservation for the system: a
// lab's node shares its machine with everything else on it anyway.
func (n *Node) capacity() (corev1.ResourceList, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(n.cfg.Dir, &fs); err != nil {
		return nil, fmt.Errorf("reading the size of the disk at %s: %w", n.cfg.Dir, err)
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("reading the size of memory: %w", err)
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(int64(info.Totalram)*int64(info.Unit), resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(int64(fs.Blocks)*int64(fs.Bsize), resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
	}
	maps.Copy(capacity, n.cfg.Capacity)
	return capacity, nil
}

// pressure thresholds: the kubelet's hard eviction defaults.
const (
	minMemory      = 100 << 20
	minDiskPercent = 10
	minPIDPercent  = 5
)

// pressures are the conditions of a node that say that something runs short.
type pressures struct{ memory, disk, pids bool }

func (n *Node) pressures() (pressures, error) {
	var p pressures
	var fs unix.Statfs_t
	if err := unix.Statfs(n.cfg.Dir, &fs); err != nil {
		return p, fmt.Errorf("reading what is free on the disk at %s: %w", n.cfg.Dir, err)
	}
	p.disk = fs.Blocks > 0 && fs.Bavail*100/fs.Blocks < minDiskPercent
	available, err := memAvailable()
	if err != nil {
		return p, err
	}
	p.memory = available < minMemory
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return p, fmt.Errorf("counting processes: %w", err)
	}
	limit, err := readNumber("/proc/sys/kernel/pid_max")
	if err != nil {
		return p, err
	}
	p.pids = (limit-int64(info.Procs))*100/limit < minPIDPercent
	return p, nil
}

func memAvailable() (int64, error) {
	file, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("reading what memory is free: %w", err)
	}
	var kib int64
	for line := range strings.Lines(string(file)) {
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("reading what memory is free: /proc/meminfo has no line MemAvailable")
}

func readNumber(path string) (int64, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading a limit of the kernel: %w", err)
	}
	var number int64
	if _, err := fmt.Sscan(string(file), &number); err != nil || number <= 0 {
		return 0, fmt.Errorf("reading a limit of the kernel: %s holds %q", path, bytes.TrimSpace(file))
	}
	return number, nil
}

// nodeInfo describes the machine to people.
func (n *Node) nodeInfo() (corev1.NodeSystemInfo, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return corev1.NodeSystemInfo{}, fmt.Errorf("asking the kernel for its version: %w", err)
	}
	machine := firstLine("/etc/machine-id")
	return corev1.NodeSystemInfo{
		MachineID:               machine,
		SystemUUID:              machine,
		BootID:                  firstLine("/proc/sys/kernel/random/boot_id"),
		KernelVersion:           unix.ByteSliceToString(u.Release[:]),
		OSImage:                 osImage(),
		ContainerRuntimeVersion: n.runtimeName + "://" + n.runtimeVer,
		KubeletVersion:          n.cfg.Version,
		OperatingSystem:         runtime.GOOS,
		Architecture:            runtime.GOARCH,
	}, nil
}

// firstLine gives what a file says, or nothing: a machine without the file is a node all the same.
func firstLine(path string) string {
	file, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(file))
}

// osImage is PRETTY_NAME of os-release(5).
func osImage() string {
	for line := range strings.Lines(firstLine("/etc/os-release")) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return "Linux"
}
