package eviction

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

func TestParse(t *testing.T) {
	usual, err := Parse(DefaultHard)
	if err != nil || len(usual) != 5 || usual[0].Quantity.String() != "100Mi" || usual[1].Percent != 10 {
		t.Errorf("%v, %v", usual, err)
	}
	for text, want := range map[string]int{"": 0, "memory.available<1Gi": 1, "nodefs.available<0%": 0, "nodefs.available<100%": 0, " pid.available<5% , ": 1} {
		if got, err := Parse(text); err != nil || len(got) != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"memory.available>1Gi": "has no \"<\"", "memory<1Gi": "unsupported eviction signal memory", "memory.available<": "memory.available",
		"memory.available<0": "must be positive", "memory.available<-5%": "must be >= 0%", "nodefs.available<101%": "must be >= 0%",
		"nodefs.available<x%": "is no number", "nodefs.available<NaN%": "must be >= 0%", "memory.available<1Gi,memory.available<2Gi": "two thresholds",
	} {
		if got, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
}

func TestReserve(t *testing.T) {
	usual, err := Parse(DefaultHard)
	if err != nil {
		t.Fatal(err)
	}
	kept := Reserve(usual, corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourceEphemeralStorage: resource.MustParse("100Gi")})
	if len(kept) != 2 || kept.Memory().String() != "100Mi" || kept.StorageEphemeral().String() != "10Gi" {
		t.Errorf("%v", kept)
	}
}

func of(n uint64) *uint64 { return &n }

// figures are those of a node with so much left of 100 Gi of memory and 1000 of everything else.
func figures(memory string, nodefs, imagefs uint64) *stats.NodeStats {
	left := resource.MustParse(memory)
	disk := func(left uint64) *stats.FsStats {
		return &stats.FsStats{AvailableBytes: &left, CapacityBytes: of(1000), InodesFree: of(500), Inodes: of(1000)}
	}
	pids, limit := int64(100), int64(1000)
	return &stats.NodeStats{
		Memory:  &stats.MemoryStats{AvailableBytes: of(uint64(left.Value())), WorkingSetBytes: of(uint64(100<<30 - left.Value()))},
		Fs:      disk(nodefs),
		Runtime: &stats.RuntimeStats{ImageFs: disk(imagefs), ContainerFs: disk(imagefs)},
		Rlimit:  &stats.RlimitStats{MaxPID: &limit, NumOfRunningProcesses: &pids},
	}
}

func signals(met []Threshold) string {
	var names []string
	for _, m := range met {
		names = append(names, string(m.Signal))
	}
	return strings.Join(names, " ")
}

func TestThresholds(t *testing.T) {
	for _, tt := range []struct {
		name, hard string
		node       *stats.NodeStats
		want       string
	}{
		{"enough of everything", DefaultHard, figures("1Gi", 500, 500), ""},
		{"memory", DefaultHard, figures("99Mi", 500, 500), "memory.available"},
		{"just enough memory", DefaultHard, figures("100Mi", 100, 150), ""},
		{"disks, and memory first", DefaultHard, figures("1Mi", 99, 149), "memory.available nodefs.available imagefs.available"},
		{"process numbers", "pid.available<91%", figures("1Gi", 500, 500), "pid.available"},
		{"inodes", "nodefs.inodesFree<501", figures("1Gi", 500, 500), "nodefs.inodesFree"},
		{"disk of containers", "containerfs.available<501,containerfs.inodesFree<50%", figures("1Gi", 500, 500), "containerfs.available"},
		{"what was not measured", DefaultHard, &stats.NodeStats{Fs: &stats.FsStats{Inodes: of(0), InodesFree: of(0)}}, ""},
		{"none at all", "", figures("1Mi", 0, 0), ""},
	} {
		thresholds, err := Parse(tt.hard)
		if err != nil {
			t.Fatal(err)
		}
		if got := signals(NewManager(thresholds, time.Minute).Met(Observe(tt.node))); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestConditionsStay: a condition ends some time after its last threshold was met.
func TestConditionsStay(t *testing.T) {
	thresholds, err := Parse(DefaultHard)
	if err != nil {
		t.Fatal(err)
	}
	m, begin := NewManager(thresholds, 5*time.Minute), time.Unix(1000, 0)
	m.Update(begin, Observe(figures("1Mi", 500, 500)))
	m.Update(begin.Add(time.Minute), Observe(figures("1Gi", 1, 500)))
	for after, want := range map[time.Duration]string{
		4 * time.Minute: "DiskPressure MemoryPressure", 5 * time.Minute: "DiskPressure", 6 * time.Minute: "",
	} {
		var got []string
		for _, c := range m.Conditions(begin.Add(after)) {
			got = append(got, string(c))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("after %v: %v, want %s", after, got, want)
		}
	}
}

// aPod is a pod of a priority that requests memory and disk, and uses so much of both.
func aPod(name string, priority int32, request string, memory, disk uint64) (*corev1.Pod, *stats.PodStats) {
	pod := &corev1.Pod{}
	pod.Name, pod.UID, pod.Spec.Priority = name, types.UID(name), &priority
	c := corev1.Container{Name: "app"}
	if request != "" {
		quantity := resource.MustParse(request)
		c.Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: quantity, corev1.ResourceEphemeralStorage: quantity}
	}
	pod.Spec.Containers = []corev1.Container{c}
	pod.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	fs := &stats.FsStats{UsedBytes: &disk, InodesUsed: of(disk / 100)}
	use := &stats.PodStats{
		Memory: &stats.MemoryStats{WorkingSetBytes: &memory}, ProcessStats: &stats.ProcessStats{ProcessCount: of(memory / 1000)},
		Containers: []stats.ContainerStats{{Name: "app", Memory: &stats.MemoryStats{WorkingSetBytes: &memory}, Rootfs: fs, Logs: &stats.FsStats{UsedBytes: of(0), InodesUsed: of(0)}}},
	}
	return pod, use
}

func many(all ...func() (*corev1.Pod, *stats.PodStats)) *Pods {
	pods := &Pods{Use: map[string]*stats.PodStats{}}
	for _, one := range all {
		pod, use := one()
		pods.List = append(pods.List, pod)
		if use != nil {
			pods.Use[pod.Name] = use
		}
	}
	return pods
}

func with(name string, priority int32, request string, memory, disk uint64) func() (*corev1.Pod, *stats.PodStats) {
	return func() (*corev1.Pod, *stats.PodStats) { return aPod(name, priority, request, memory, disk) }
}

// TestRank: who uses more than it requested goes first, then who has the lower priority, then who exceeds by more.
func TestRank(t *testing.T) {
	unknown := func() (*corev1.Pod, *stats.PodStats) { pod, _ := aPod("unknown", 100, "", 0, 0); return pod, nil }
	pods := many(
		with("within", 0, "10k", 9000, 9000), with("low", -1, "1k", 2000, 2000), with("hungry", 0, "1k", 9000, 3000),
		with("thirsty", 0, "1k", 3000, 9000), with("precious", 1000, "", 20000, 20000), unknown,
	)
	for signal, want := range map[Signal]string{
		MemoryAvailable: "unknown low hungry thirsty precious within",
		NodeFsAvailable: "unknown low thirsty hungry precious within",
		PIDAvailable:    "low within hungry thirsty unknown precious",
	} {
		var got []string
		for _, pod := range pods.rank(signal) {
			got = append(got, pod.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", signal, got, want)
		}
	}
}

// TestDisksApart: with a disk of its own for images, what containers write counts there, and logs and volumes here.
func TestDisksApart(t *testing.T) {
	pod, use := aPod("a", 0, "", 0, 700)
	use.Containers[0].Logs.UsedBytes = of(50)
	use.VolumeStats = []stats.VolumeStats{{Name: "tmp", FsStats: stats.FsStats{UsedBytes: of(3)}}, {Name: "claim", FsStats: stats.FsStats{UsedBytes: of(5000)}}}
	pods := &Pods{}
	for _, tt := range []struct {
		apart  bool
		signal Signal
		want   int64
	}{{false, NodeFsAvailable, 753}, {false, ImageFsAvailable, 753}, {true, NodeFsAvailable, 53}, {true, ImageFsAvailable, 700}, {true, ImageFsInodesFree, 7}} {
		pods.ImageDisk = tt.apart
		if got := pods.disk(tt.signal, pod, use); got.Value() != tt.want {
			t.Errorf("%s, apart %v: %v, want %d", tt.signal, tt.apart, got.Value(), tt.want)
		}
	}
}

func TestChoose(t *testing.T) {
	thresholds, err := Parse(DefaultHard)
	if err != nil {
		t.Fatal(err)
	}
	seen := Observe(figures("50Mi", 500, 500))
	met := NewManager(thresholds, time.Minute).Met(seen)
	e := Choose(met, seen, many(with("critical", criticalPriority, "", 1<<30, 0), with("small", 0, "", 1<<20, 0), with("big", 0, "1Mi", 8<<20, 0)))
	if e == nil || e.Pod.Name != "big" || !e.Disrupted {
		t.Fatalf("%+v", e)
	}
	const want = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container app was using 8Mi, request is 1Mi, has larger consumption of memory. "
	if e.Message != want {
		t.Errorf("%q, want %q", e.Message, want)
	}
	if e.Annotations["offending_containers"] != "app" || e.Annotations["offending_containers_usage"] != "8Mi" || e.Annotations["starved_resource"] != "memory" {
		t.Errorf("%v", e.Annotations)
	}
	if e := Choose(met, seen, many(with("critical", criticalPriority, "", 1<<30, 0))); e != nil {
		t.Errorf("a critical pod has to go: %+v", e)
	}
	if e := Choose(nil, seen, many(with("a", 0, "", 1, 1))); e != nil {
		t.Errorf("a pod has to go for nothing: %+v", e)
	}
}

func TestExceeding(t *testing.T) {
	small, large := resource.MustParse("1Ki"), resource.MustParse("1Mi")
	volume := func() (*corev1.Pod, *stats.PodStats) {
		pod, use := aPod("volume", 0, "", 0, 0)
		pod.Spec.Volumes[0].EmptyDir.SizeLimit = &small
		use.VolumeStats = []stats.VolumeStats{{Name: "tmp", FsStats: stats.FsStats{UsedBytes: of(2048)}}}
		return pod, use
	}
	limited := func(name string, of uint64, all *stats.FsStats) func() (*corev1.Pod, *stats.PodStats) {
		return func() (*corev1.Pod, *stats.PodStats) {
			pod, use := aPod(name, 0, "", 0, of)
			pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: small}
			use.EphemeralStorage = all
			return pod, use
		}
	}
	fine := func() (*corev1.Pod, *stats.PodStats) {
		pod, use := volume()
		pod.Name, pod.UID = "fine", "fine"
		pod.Spec.Volumes[0].EmptyDir.SizeLimit = &large
		return pod, use
	}
	critical := func() (*corev1.Pod, *stats.PodStats) {
		pod, use := volume()
		pod.Name, pod.UID, *pod.Spec.Priority = "critical", "critical", criticalPriority
		return pod, use
	}
	pods := many(volume, limited("container", 2048, nil), limited("sum", 10, &stats.FsStats{UsedBytes: of(2048)}), limited("within", 1024, nil), fine, critical)
	got := map[string]string{}
	for _, e := range Exceeding(pods) {
		got[e.Pod.Name] = e.Message
		if e.Disrupted {
			t.Errorf("%s goes for the sake of others", e.Pod.Name)
		}
	}
	want := map[string]string{
		"volume":    `Usage of EmptyDir volume "tmp" exceeds the limit "1Ki". `,
		"container": `Container app exceeded its local ephemeral storage limit "1Ki". `,
		"sum":       `Pod ephemeral local storage usage exceeds the total limit of containers 1Ki. `,
	}
	for name, message := range want {
		if got[name] != message {
			t.Errorf("%s: %q, want %q", name, got[name], message)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for i, limited := range []bool{true, true, true, true, true, true} {
		if Limited(pods.List[i]) != limited {
			t.Errorf("%s is limited: %v", pods.List[i].Name, !limited)
		}
	}
	if pod, _ := aPod("a", 0, "1k", 0, 0); Limited(pod) {
		t.Error("a request is no limit")
	}
}

func TestRefuse(t *testing.T) {
	memory, disk := []corev1.NodeConditionType{corev1.NodeMemoryPressure}, []corev1.NodeConditionType{corev1.NodeDiskPressure, corev1.NodeMemoryPressure}
	tolerating := []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
	for _, tt := range []struct {
		conditions  []corev1.NodeConditionType
		class       corev1.PodQOSClass
		priority    int32
		tolerations []corev1.Toleration
		want        string
	}{
		{nil, corev1.PodQOSBestEffort, 0, nil, ""},
		{memory, corev1.PodQOSBestEffort, 0, nil, "The node had condition: [MemoryPressure]. "},
		{memory, corev1.PodQOSBurstable, 0, nil, ""},
		{memory, corev1.PodQOSBestEffort, 0, tolerating, ""},
		{memory, corev1.PodQOSBestEffort, criticalPriority, nil, ""},
		{disk, corev1.PodQOSGuaranteed, 0, tolerating, "The node had condition: [DiskPressure MemoryPressure]. "},
	} {
		pod := &corev1.Pod{}
		pod.Status.QOSClass, pod.Spec.Priority, pod.Spec.Tolerations = tt.class, &tt.priority, tt.tolerations
		if got := Refuse(slices.Clone(tt.conditions), pod); got != tt.want {
			t.Errorf("%v, %v, %d: %q, want %q", tt.conditions, tt.class, tt.priority, got, tt.want)
		}
	}
}
