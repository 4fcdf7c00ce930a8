package proxy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
)

// slowPlane holds a table in memory, and takes as long to read as its test likes.
type slowPlane struct {
	frontends map[ID]Frontend
	reading   func(n int) // called by Dump, which has read already, with how often it was
	dumps     int
	resyncs   int
}

func (p *slowPlane) Sync(_ context.Context, change Change) error {
	for _, id := range change.Remove {
		delete(p.frontends, id)
	}
	for _, f := range change.Set {
		p.frontends[f.ID] = f
	}
	return nil
}

func (p *slowPlane) Resync(_ context.Context, table Table) error {
	p.resyncs++
	p.frontends = map[ID]Frontend{}
	for _, f := range table.Frontends {
		p.frontends[f.ID] = f
	}
	return nil
}

func (p *slowPlane) Dump(context.Context) (Table, error) {
	var all []Frontend
	for _, f := range p.frontends {
		all = append(all, f)
	}
	p.dumps++
	if p.reading != nil {
		p.reading(p.dumps)
	}
	return NewTable(all...), nil
}

func (p *slowPlane) Close(context.Context) error { return nil }
func (p *slowPlane) Capabilities() Capabilities  { return Capabilities{} }

// idle is a Proxy that does what its test says, and nothing by itself.
func idle(t *testing.T, plane Dataplane) *Proxy {
	t.Helper()
	cat, err := catalog.New(informers.NewSharedInformerFactory(fake.NewClientset(), 0))
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{Catalog: cat, Dataplane: plane, Recorder: record.NewFakeRecorder(10), Node: testNode})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// change puts a Service into force as the loop does, and fails when that has to wait.
func change(t *testing.T, p *Proxy, name string) {
	t.Helper()
	locked := make(chan struct{})
	go func() {
		defer close(locked)
		p.mu.Lock()
		defer p.mu.Unlock()
		svc := testService(func(s *catalog.Service) { s.Name = name })
		p.apply(context.Background(), map[catalog.Key]request{svc.Key: {frontends: Build(svc, testNode)}})
	}()
	select {
	case <-locked:
	case <-time.After(5 * time.Second):
		t.Error("a change waited for a comparison")
	}
}

func TestChangesDoNotWaitForAComparison(t *testing.T) {
	plane := &slowPlane{frontends: map[ID]Frontend{}}
	p := idle(t, plane)
	change(t, p, "first")
	plane.reading = func(n int) {
		if n < 3 {
			change(t, p, map[int]string{1: "bbb", 2: "aaa"}[n]) // another owner of the addresses each time
		}
	}
	lines, err := p.Repair(t.Context())
	if err != nil || len(lines) > 0 || plane.resyncs > 0 {
		t.Errorf("what was read before the change passed for drift: %q, %v, %d repairs", lines, err, plane.resyncs)
	}
	if plane.dumps != 3 {
		t.Errorf("read %d times, want once more after each change", plane.dumps)
	}
}

func TestDriftIsRepairedThoughChangesGoOn(t *testing.T) {
	plane := &slowPlane{frontends: map[ID]Frontend{}}
	p := idle(t, plane)
	change(t, p, "first")
	clear(plane.frontends)
	names := strings.Split("eee ddd ccc bbb aaa", " ")
	plane.reading = func(n int) {
		if n <= overtaken {
			change(t, p, names[n-1])
			for id := range plane.frontends {
				delete(plane.frontends, id) // somebody is at it, too
				break
			}
		}
	}
	lines, err := p.Repair(t.Context())
	if errors.Is(err, errOvertaken) || err != nil || len(lines) == 0 {
		t.Fatalf("repaired %q, %v", lines, err)
	}
	if again, err := p.Diff(t.Context()); err != nil || len(again) > 0 {
		t.Errorf("after the repair: %q, %v", again, err)
	}
}

func TestExternalIPsCanBeRefused(t *testing.T) {
	node := testNode
	node.NoExternalIPs = true
	svc := testService(func(*catalog.Service) {})
	for _, f := range Build(svc, node) {
		if f.Addr() == svc.ExternalIPs[0] {
			t.Errorf("served all the same: %s", f)
		}
	}
	n, recorder := notices{}, record.NewFakeRecorder(10)
	n.observe(svc, node)
	n.report(recorder, time.Now())
	select {
	case event := <-recorder.Events:
		if !strings.Contains(event, "ExternalIPsRefused") || !strings.Contains(event, "--external-ips") {
			t.Errorf("the event is %q", event)
		}
	default:
		t.Error("nothing was said")
	}
}

// TestLatencyCountsFromTheCause: the annotation of the controller counts once, and only while this process runs.
func TestLatencyCountsFromTheCause(t *testing.T) {
	p := idle(t, &slowPlane{frontends: map[ID]Frontend{}})
	key := catalog.Key{Namespace: "default", Name: "web"}
	arrived := time.Now()
	p.began = arrived.Add(-time.Minute)
	cause := arrived.Add(-10 * time.Second)
	sum := func() float64 {
		registry := prometheus.NewRegistry()
		registry.MustRegister(p.cfg.Metrics)
		all, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if m.GetName() == "svcplane_proxy_network_programming_duration_seconds" {
				return m.GetMetric()[0].GetHistogram().GetSampleSum()
			}
		}
		return -1
	}
	p.observeLatency(key, request{triggered: cause}, arrived)
	if got := sum(); got < 10 || got > 15 {
		t.Errorf("counted %v s from the cause, want about 10", got)
	}
	p.observeLatency(key, request{triggered: cause}, arrived)
	p.observeLatency(catalog.Key{Name: "old"}, request{triggered: p.began.Add(-time.Hour)}, arrived)
	if got := sum(); got > 15 {
		t.Errorf("counted an old cause, or one twice: %v s", got)
	}
}
