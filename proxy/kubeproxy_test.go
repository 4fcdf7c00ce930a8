package proxy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
	"svcplane/metrics/metricstest"
)

// TestMetricsOfKubeProxy: what dashboards of kube-proxy ask for, after a start and a change.
func TestMetricsOfKubeProxy(t *testing.T) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{
		ClusterIP: "10.96.0.9", ClusterIPs: []string{"10.96.0.9"}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
	client := fake.NewClientset(svc)
	factory := informers.NewSharedInformerFactory(client, 0)
	cat, err := catalog.New(factory)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{Catalog: cat, Dataplane: &slowPlane{frontends: map[ID]Frontend{}}, Recorder: record.NewFakeRecorder(100), Node: testNode})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory.Start(ctx.Done())
	ended := make(chan struct{}, 2)
	go func() { _ = cat.Run(ctx); ended <- struct{}{} }()
	go func() { _ = p.Run(ctx); ended <- struct{}{} }()
	defer func() { cancel(); <-ended; <-ended; factory.Shutdown() }()
	<-p.Ready()
	port, ready := int32(8080), true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"},
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Add(time.Millisecond).Format(time.RFC3339Nano)}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.5"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}
	if _, err := client.DiscoveryV1().EndpointSlices("default").Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var all metricstest.Set
	const name, v4 = "kubeproxy_", "ip_family=IPv4"
	deadline := time.Now().Add(time.Minute)
	done := func() bool {
		return all.Value(t, name+"network_programming_duration_seconds", v4) == 1 && all.Value(t, name+"sync_proxy_rules_endpoint_changes_pending") == 0
	}
	for !done() && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
		all = metricstest.Gather(t, p.cfg.Metrics)
	}
	p.health.handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/healthz", nil))
	all = metricstest.Gather(t, p.cfg.Metrics)
	for _, want := range []struct {
		family string
		label  []string
		value  float64
	}{
		{"network_programming_duration_seconds", []string{v4}, 1},
		{"sync_proxy_rules_duration_seconds", []string{v4}, 2},
		{"sync_full_proxy_rules_duration_seconds", []string{v4}, 1},
		{"sync_partial_proxy_rules_duration_seconds", []string{v4}, 1},
		{"sync_proxy_rules_service_changes_total", nil, 1},
		{"sync_proxy_rules_endpoint_changes_total", nil, 1},
		{"sync_proxy_rules_service_changes_pending", nil, 0},
		{"sync_proxy_rules_endpoint_changes_pending", nil, 0},
		{"proxy_healthz_total", []string{"code=200"}, 1},
	} {
		if got := all.Value(t, name+want.family, want.label...); got != want.value {
			t.Errorf("%s is %v, want %v", want.family, got, want.value)
		}
	}
	last, queued := all.Value(t, name+"sync_proxy_rules_last_timestamp_seconds", v4), all.Value(t, name+"sync_proxy_rules_last_queued_timestamp_seconds", v4)
	if now := float64(time.Now().Unix()); last < now-60 || queued < now-60 || queued > last {
		t.Errorf("last queued %v, last synced %v, now %v", queued, last, now)
	}
	if got := all.Bounds(t, name+"network_programming_duration_seconds", v4); len(got) != 80 || got[0] != 0.25 || got[79] != 300 {
		t.Errorf("the buckets are %v", got)
	}
}
