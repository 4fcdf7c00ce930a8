package figures

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"svcplane/measure"
	"svcplane/metrics/metricstest"
)

var (
	machine = Machine{Machine: measure.Machine{CPU: time.Hour, Memory: 1 << 30, Present: 4 << 30, Started: time.Unix(1000, 0)}, Cores: 2}
	pods    = []Pod{
		{Namespace: "shop", Name: "web", UID: "u1", Sandbox: "s1", Started: time.Unix(2000, 0), Measured: time.Unix(3000, 0), Processes: 3,
			Links: []measure.Link{{Name: "eth0", Received: 10, Sent: 20, SendErrors: 1}},
			Containers: []Container{
				{Name: "app", ID: "c1", Image: "web:1", Started: time.Unix(2001, 0), Use: &Use{CPU: 1500 * time.Millisecond, WorkingSet: 100, RSS: 60}},
				{Name: "side", ID: "c2", Image: "side:1", Use: &Use{CPU: 500 * time.Millisecond, WorkingSet: 10, RSS: 5}},
			}},
		{Namespace: "shop", Name: "echo", UID: "u2", Sandbox: "s2", Measured: time.Unix(3000, 0), Containers: []Container{{Name: "app", ID: "c3", Image: "svcplane/echo"}}},
	}
)

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
	text, err := json.Marshal(Summary("box", time.Unix(3000, 0), machine, pods))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"nodeName":"box"`, `"podRef":{"name":"web","namespace":"shop","uid":"u1"}`, `"usageCoreNanoSeconds":1500000000`, `"rxBytes":10`, `"workingSetBytes":110`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}
