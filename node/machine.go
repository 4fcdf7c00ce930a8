package node

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// capacity is what the configuration says, and else what the machine has. What of
// it is not there for pods offered takes off.
func (n *Node) capacity() (corev1.ResourceList, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(n.cfg.Dir, &fs); err != nil {
		return nil, fmt.Errorf("reading the size of the disk at %s: %w", n.cfg.Dir, err)
	}
	capacity, err := machine()
	if err != nil {
		return nil, err
	}
	capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(int64(fs.Blocks)*int64(fs.Bsize), resource.BinarySI)
	capacity[corev1.ResourcePods] = *resource.NewQuantity(maxPods, resource.DecimalSI)
	maps.Copy(capacity, n.cfg.Capacity)
	return capacity, nil
}

// machine is what is known of the machine itself.
func machine() (corev1.ResourceList, error) {
	memory, err := totalMemory()
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(runtime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(memory, resource.BinarySI),
	}, err
}

// pressures are the conditions of a node that say that something runs short.
type pressures struct{ memory, disk, pids bool }

func (n *Node) pressures() pressures {
	now := n.evictor.now()
	return pressures{
		memory: slices.Contains(now, corev1.NodeMemoryPressure), disk: slices.Contains(now, corev1.NodeDiskPressure),
		pids: slices.Contains(now, corev1.NodePIDPressure),
	}
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
