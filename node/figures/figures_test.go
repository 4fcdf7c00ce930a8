package figures

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"svcplane/measure"
	"svcplane/metrics/metricstest"
)

var (
	machine = Machine{Machine: measure.Machine{CPU: time.Hour, Memory: 1 << 30, Present: 4 << 30, Started: time.Unix(1000, 0), MaxPID: 99},
		Cores: 2, BootID: "boot", Measured: time.Unix(3000, 0), Rate: &Rate{NanoCores: 5e8, Window: time.Second}}
	pods = []Pod{
		{Namespace: "shop", Name: "web", UID: "u1", Sandbox: "s1", Started: time.Unix(2000, 0), Measured: time.Unix(3000, 0), Processes: 3,
			Links: []measure.Link{{Name: "eth0", Received: 10, Sent: 20, SendErrors: 1}},
			Containers: []Container{
				{Name: "app", ID: "c1", Image: "web:1", Started: time.Unix(2001, 0), Use: &Use{CPU: 1500 * time.Millisecond, WorkingSet: 100, RSS: 60}},
				{Name: "side", ID: "c2", Image: "side:1", Use: &Use{CPU: 500 * time.Millisecond, WorkingSet: 10, RSS: 5}},
			}},
		{Namespace: "shop", Name: "echo", UID: "u2", Sandbox: "s2", Measured: time.Unix(3000, 0), Containers: []Container{{Name: "app", ID: "c3", Image: "svcplane/echo"}}},
		{Namespace: "shop", Name: "full", UID: "u3", Class: corev1.PodQOSBurstable, Measured: time.Unix(3000, 0), Containers: []Container{{
			Name: "app", ID: "c4", Rate: &Rate{NanoCores: 25e7, Window: 5 * time.Second},
			Use:   &Use{CPU: time.Second, WorkingSet: 200, Taken: figure(300), Available: figure(900), Faults: figure(9), MajorFaults: figure(2), Swap: figure(7)},
			Layer: &stats.FsStats{UsedBytes: figure(100), InodesUsed: figure(3)}, Logs: &stats.FsStats{UsedBytes: figure(50), InodesUsed: figure(1)},
			Wants: &corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")},
				Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("1Mi")},
			},
		}}, Volumes: []Volume{
			{Local: true, VolumeStats: stats.VolumeStats{Name: "tmp", FsStats: stats.FsStats{UsedBytes: figure(1000), InodesUsed: figure(10)}}},
			{VolumeStats: stats.VolumeStats{Name: "data", FsStats: stats.FsStats{UsedBytes: figure(4096)}, PVCRef: &stats.PVCReference{Namespace: "shop", Name: "data"}}},
		}},
	}
)

func figure(n uint64) *uint64 { return &n }

func TestCadvisor(t *testing.T) {
	all := metricstest.Gather(t, Cadvisor(machine, pods))
	app := []string{"container=app", "pod=web", "namespace=shop", "id=/kubepods/podu1/c1", "name=c1", "image=web:1"}
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"container_cpu_usage_seconds_total", append(app, "cpu=total"), 1.5},
		{"container_memory_working_set_bytes", app, 100},
		{"container_memory_rss", app, 60},
		{"container_start_time_seconds", app, 2001},
		{"container_cpu_usage_seconds_total", []string{"pod=web", "container="}, 2},
		{"container_processes", []string{"pod=web", "container="}, 3},
		{"container_network_receive_bytes_total", []string{"pod=web", "interface=eth0", "name=s1"}, 10},
		{"container_network_transmit_errors_total", []string{"pod=web", "interface=eth0"}, 1},
		{"container_cpu_usage_seconds_total", []string{"id=/"}, 3600},
		{"machine_memory_bytes", nil, 4 << 30},
	} {
		if got := all.Value(t, tt.name, tt.labels...); got != tt.want {
			t.Errorf("%s%q is %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	if m := all.Find(t, "container_memory_working_set_bytes", "pod=echo", "container=app"); m != nil {
		t.Errorf("what was not measured is told: %v", m)
	}
	for name, want := range map[string]float64{
		"container_memory_usage_bytes": 300, "container_memory_swap": 7, "container_spec_cpu_shares": 256, "container_spec_cpu_quota": 50000,
		"container_spec_cpu_period": 100000, "container_spec_memory_limit_bytes": 1 << 20, "container_fs_usage_bytes": 150,
	} {
		if got := all.Value(t, name, "id=/kubepods/burstable/podu3/c4", "pod=full", "container=app"); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := all.Value(t, "container_memory_failures_total", "container=app", "pod=full", "failure_type=pgmajfault"); got != 2 {
		t.Errorf("%v faults read a disk", got)
	}
	if got := all.Value(t, "machine_cpu_cores", "boot_id=boot"); got != 2 {
		t.Errorf("%v cores", got)
	}
}

// TestClaims: each claim is told of once, whoever has it.
func TestClaims(t *testing.T) {
	all := metricstest.Gather(t, Claims([]Pod{pods[2], pods[2]}))
	if got := all.Value(t, "kubelet_volume_stats_used_bytes", "namespace=shop", "persistentvolumeclaim=data"); got != 4096 {
		t.Errorf("the claim takes %v", got)
	}
}

func TestResource(t *testing.T) {
	all := metricstest.Gather(t, Resource(machine, pods, nil))
	if m := all.Find(t, "container_cpu_usage_seconds_total", "container=app", "pod=web", "namespace=shop"); m.GetCounter().GetValue() != 1.5 || m.GetTimestampMs() != 3000000 {
		t.Errorf("%v", m)
	}
	if got := all.Value(t, "pod_memory_working_set_bytes", "pod=web", "namespace=shop"); got != 110 {
		t.Errorf("the pod's memory is %v", got)
	}
	if all.Value(t, "resource_scrape_error") != 0 || metricstest.Gather(t, Resource(machine, nil, errors.New("no"))).Value(t, "resource_scrape_error") != 1 {
		t.Error("errors are not told")
	}
}

func TestSummary(t *testing.T) {
	text, err := json.Marshal(Summary("box", machine, pods, false))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"nodeName":"box"`, `"podRef":{"name":"web","namespace":"shop","uid":"u1"}`, `"usageCoreNanoSeconds":1500000000`, `"rxBytes":10`, `"workingSetBytes":110`,
		`"usageNanoCores":500000000`, `"usageNanoCores":250000000`, `"availableBytes":900`, `"maxpid":99`,
		`"ephemeral-storage":{"time":null,"usedBytes":1150,"inodesUsed":14}`, `"pvcRef":{"name":"data","namespace":"shop"}`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	text, err = json.Marshal(Summary("box", machine, pods, true))
	if err != nil || strings.Contains(string(text), "ephemeral") || !strings.Contains(string(text), `"usageNanoCores":250000000`) {
		t.Errorf("only time and memory: %s, %v", text, err)
	}
}
