package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"svcplane/apiserver/hostimages"
	"svcplane/node/eviction"
	"svcplane/node/imagegc"
	"svcplane/node/runtime/pull"
	"svcplane/server"
)

// nodeOptions are the flags about what runs on the node.
type nodeOptions struct {
	HostImages string
	Capacity   []string
	Registries string

	SeccompDefault bool
	ImageGC        imagegc.Policy
	UnsafeSysctls  []string

	EvictionHard       string
	PressureTransition time.Duration
	LogMaxSize         string
	LogMaxFiles        int

	SystemReserved, KubeReserved []string
	PodMaxPIDs                   int64
}

// podMaxPIDs is the usual limit of a pod's processes: an eighth of what a kernel has by default (32768), so that the machine
// goes on with several pods that fork without end, and four times what a large JVM has threads.
const podMaxPIDs = 4096

func (o *nodeOptions) register(fs *pflag.FlagSet) {
	fs.StringVar(&o.HostImages, "host-images", string(hostimages.On), "which pods may have this machine's root, by the image svcplane/host, an exec into svcplane/echo or a hostPath volume: on (those of namespaces where PodSecurity enforces no more than privileged), privileged-namespaces (only where the label pod-security.kubernetes.io/enforce says privileged), off or false (none)")
	fs.BoolVar(&o.SeccompDefault, "seccomp-default", false, "containers whose pod names no seccomp profile get RuntimeDefault instead of Unconfined, as with the kubelet's flag")
	fs.StringSliceVar(&o.UnsafeSysctls, "allowed-unsafe-sysctls", nil, "sysctls that pods may set besides the safe ones, or patterns such as net.core.*, as with the kubelet's flag: of pods that do, you know that no other pod is harmed")
	fs.StringSliceVar(&o.Capacity, "node-capacity", nil, "what the node offers to pods, instead of what the machine has, such as cpu=64,memory=256Gi,pods=1000,ephemeral-storage=1Ti: for labs whose pods request much and use little")
	const reserved = ", such as cpu=200m,memory=500Mi,ephemeral-storage=1Gi,pid=1000: it is not there for pods, and taken off what the node offers"
	fs.StringSliceVar(&o.SystemReserved, "system-reserved", nil, "what the rest of the machine needs"+reserved)
	fs.StringSliceVar(&o.KubeReserved, "kube-reserved", nil, "what svcplane itself needs"+reserved)
	fs.Int64Var(&o.PodMaxPIDs, "pod-max-pids", podMaxPIDs, "how many processes and threads one pod may have; -1: as many as the node")
}

func (o *nodeOptions) registerEviction(fs *pflag.FlagSet) {
	fs.StringVar(&o.EvictionHard, "eviction-hard", strings.ReplaceAll(eviction.DefaultHard, ",", ", "), "from when on pods are ended since the node runs short of something, as with the kubelet's flag; empty: never")
	fs.DurationVar(&o.PressureTransition, "eviction-pressure-transition-period", 5*time.Minute, "how long the node keeps a condition such as DiskPressure, and takes no pods, after there is enough again")
}

func (o *nodeOptions) registerLogs(fs *pflag.FlagSet) {
	fs.StringVar(&o.LogMaxSize, "container-log-max-size", "10Mi", "how large the log of a container gets before a new file is begun; less than 0: without limit")
	fs.IntVar(&o.LogMaxFiles, "container-log-max-files", 5, "how many files are kept of a container's log, the present one included")
}

// checkLogs has the words of the kubelet.
func (o *nodeOptions) checkLogs(c *server.Config) error {
	size, err := resource.ParseQuantity(o.LogMaxSize)
	whole, ok := size.AsInt64()
	switch {
	case err != nil:
		return fmt.Errorf("--container-log-max-size %q is no quantity: it must be like 10Mi", o.LogMaxSize)
	case !ok || whole == 0:
		return fmt.Errorf("--container-log-max-size %q must be a whole number of octets, and not 0", o.LogMaxSize)
	case o.LogMaxFiles <= 1:
		return fmt.Errorf("--container-log-max-files %d must be > 1", o.LogMaxFiles)
	}
	c.Logs.MaxSize, c.Logs.MaxFiles = whole, o.LogMaxFiles
	return nil
}

func (o *nodeOptions) registerImages(fs *pflag.FlagSet) {
	fs.StringVar(&o.Registries, "registries", "", "file that says where images come from, with mirrors, credentials and certificates, in the form of k3s' registries.yaml; it is read at each pull (default <data-dir>/registries.yaml, if it is there)")
	usual := imagegc.DefaultPolicy()
	fs.IntVar(&o.ImageGC.HighThresholdPercent, "image-gc-high-threshold", usual.HighThresholdPercent, "how full, in percent, the disk of images is when those that no container uses are removed; 100: never")
	fs.IntVar(&o.ImageGC.LowThresholdPercent, "image-gc-low-threshold", usual.LowThresholdPercent, "how full, in percent, the disk of images is when no more of them are removed")
	fs.DurationVar(&o.ImageGC.MinAge, "minimum-image-ttl-duration", usual.MinAge, "how long an image is kept at least")
	fs.DurationVar(&o.ImageGC.MaxAge, "image-maximum-gc-age", usual.MaxAge, "how long an image that no container uses is kept at most, however much room there is; 0: for ever")
}

func (o *nodeOptions) check(c *server.Config) error {
	var err error
	if c.HostImages, err = hostimages.ParseMode(o.HostImages); err != nil {
		return fmt.Errorf("--host-images %q: %w", o.HostImages, err)
	}
	if c.Registries = o.Registries; o.Registries != "" {
		if _, err := os.Stat(o.Registries); err != nil {
			return fmt.Errorf("--registries: %w: correct the path, or leave the flag out", err)
		}
		if _, err := pull.ReadRegistries(o.Registries); err != nil {
			return fmt.Errorf("--registries: %w", err)
		}
	}
	if err := o.ImageGC.Validate(); err != nil {
		return err
	}
	c.ImageGC = o.ImageGC
	if c.EvictionHard, err = eviction.Parse(o.EvictionHard); err != nil {
		return fmt.Errorf("--eviction-hard %q: %w", o.EvictionHard, err)
	}
	if c.PressureTransition = o.PressureTransition; o.PressureTransition <= 0 {
		return fmt.Errorf("--eviction-pressure-transition-period %v must be more than 0", o.PressureTransition)
	}
	if err := o.checkLogs(c); err != nil {
		return err
	}
	c.SeccompDefault, c.UnsafeSysctls = o.SeccompDefault, o.UnsafeSysctls
	if err := server.CheckSysctls(o.UnsafeSysctls); err != nil {
		return fmt.Errorf("--allowed-unsafe-sysctls %q: %w", strings.Join(o.UnsafeSysctls, ","), err)
	}
	if c.PodMaxPIDs = o.PodMaxPIDs; o.PodMaxPIDs == 0 || o.PodMaxPIDs < -1 {
		return fmt.Errorf("--pod-max-pids %d: must be more than 0, or -1 for as many as the node has", o.PodMaxPIDs)
	}
	if c.Capacity, err = parseList("--node-capacity", o.Capacity, offerable[:]); err != nil {
		return err
	}
	if c.SystemReserved, err = parseList("--system-reserved", o.SystemReserved, reservable[:]); err != nil {
		return err
	}
	c.KubeReserved, err = parseList("--kube-reserved", o.KubeReserved, reservable[:])
	return err
}

// What a node offers, and what of it can be reserved.
var (
	offerable  = [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourcePods, corev1.ResourceEphemeralStorage}
	reservable = [...]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, "pid"}
)

// parseList reads a flag of quantities by name.
func parseList(flag string, texts []string, known []corev1.ResourceName) (corev1.ResourceList, error) {
	list := corev1.ResourceList{}
	for _, text := range texts {
		name, quantity, err := parseCapacity(text, known)
		if _, twice := list[name]; twice && err == nil {
			err = fmt.Errorf("%s is given twice", name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", flag, text, err)
		}
		list[name] = quantity
	}
	return list, nil
}

// parseCapacity reads one name=quantity.
func parseCapacity(text string, known []corev1.ResourceName) (corev1.ResourceName, resource.Quantity, error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return "", resource.Quantity{}, errors.New("must be like cpu=64")
	}
	name := corev1.ResourceName(strings.TrimSpace(key))
	if !slices.Contains(known, name) {
		return "", resource.Quantity{}, fmt.Errorf("a node offers %s, %s, %s and %s", known[0], known[1], known[2], known[3])
	}
	quantity, err := resource.ParseQuantity(strings.TrimSpace(value))
	switch {
	case err != nil:
		return "", quantity, fmt.Errorf("%s is no quantity: it must be like 64, 1500m or 16Gi", value)
	case quantity.Sign() <= 0:
		return "", quantity, errors.New("must be more than 0")
	case name != corev1.ResourceCPU && quantity.MilliValue()%1000 != 0:
		return "", quantity, fmt.Errorf("%s is counted in whole numbers", name)
	}
	return name, quantity, nil
}
