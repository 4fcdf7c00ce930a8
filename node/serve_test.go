package node

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/metrics/metricstest"
	"svcplane/node/access/accesstest"
)

var apiServer = pkix.Name{CommonName: apiServerClient}

// freePort gives an address that was free a moment ago.
func freePort(t *testing.T) netip.AddrPort {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return netip.MustParseAddrPort(listener.Addr().String())
}

// kubelet starts the lab with a kubelet server and gives its CA.
func (l *lab) kubelet() *authority {
	ca := newAuthority(l.t)
	ca.serving(&l.cfg)
	l.cfg.ServerAddr = freePort(l.t)
	l.cfg.Reviewer = (&accesstest.API{Token: "good", User: "prom", Node: l.cfg.Name, May: []string{"get nodes/metrics"}}).Client(l.t)
	l.start()
	return ca
}

// ask makes a request and gives the answer.
func ask(t *testing.T, c *rest.Config, path string) (int, string) {
	t.Helper()
	client, err := rest.HTTPClientFor(c)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(c.Host + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestOnlyTheAPIServerIsServed(t *testing.T) {
	l := newLab(t)
	ca := l.kubelet()
	stranger := newAuthority(t)
	host := l.cfg.ServerAddr.String()
	for _, c := range []struct {
		who  string
		conf *rest.Config
		code int
	}{
		{"nobody", ca.client(host, nil, pkix.Name{}), http.StatusUnauthorized},
		{"a certificate of another CA", ca.client(host, stranger, apiServer), http.StatusUnauthorized},
		{"a user of the cluster", ca.client(host, ca, pkix.Name{CommonName: "alice", Organization: []string{"dev"}}), http.StatusForbidden},
		{"the API server", ca.client(host, ca, apiServer), http.StatusOK},
		{"an administrator", ca.client(host, ca, pkix.Name{CommonName: "root", Organization: []string{"system:masters"}}), http.StatusOK},
	} {
		for _, path := range []string{"/healthz", "/pods", "/logs/"} {
			if code, body := ask(t, c.conf, path); code != c.code {
				t.Errorf("%s gets %d for %s, want %d: %s", c.who, code, path, c.code, body)
			}
		}
	}
}

// TestMetricsOfTheNode: a token that may read metrics gets those of pods, and nothing else.
func TestMetricsOfTheNode(t *testing.T) {
	l := newLab(t)
	l.cfg.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "all of the process") })
	ca := l.kubelet()
	l.create(pod("web"))
	id := l.wantPod("web", isReady).Status.ContainerStatuses[0].ContainerID
	_, id, _ = strings.Cut(id, "://")
	l.rt.setStats(&runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{Id: "s", Metadata: &runtimeapi.PodSandboxMetadata{Namespace: "default", Name: "web", Uid: string(l.get("web").UID)}},
		Linux: &runtimeapi.LinuxPodSandboxStats{
			Network: &runtimeapi.NetworkUsage{Interfaces: []*runtimeapi.NetworkInterfaceUsage{{Name: "eth0", RxBytes: &runtimeapi.UInt64Value{Value: 7}}}},
			Containers: []*runtimeapi.ContainerStats{{
				Attributes: &runtimeapi.ContainerAttributes{Id: id, Metadata: &runtimeapi.ContainerMetadata{Name: "app"}},
				Cpu:        &runtimeapi.CpuUsage{UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: 25e8}},
				Memory:     &runtimeapi.MemoryUsage{WorkingSetBytes: &runtimeapi.UInt64Value{Value: 99}},
			}},
		},
	})
	own := metricstest.Gather(t, l.node)
	if own.Value(t, "kubelet_running_pods") != 1 || own.Value(t, "kubelet_running_containers", "container_state=running") != 1 ||
		own.Value(t, "kubelet_node_name", "node="+l.cfg.Name) != 1 {
		t.Errorf("the node tells %v", own)
	}
	c := ca.client(l.cfg.ServerAddr.String(), nil, pkix.Name{})
	c.BearerToken = "good"
	for path, want := range map[string]string{
		"/metrics":          "all of the process",
		"/metrics/cadvisor": `container_cpu_usage_seconds_total{container="app",cpu="total",id="/kubepods/besteffort/pod` + string(l.get("web").UID) + "/" + id + `",image="`,
		"/metrics/resource": `container_memory_working_set_bytes{container="app",namespace="default",pod="web"} 99`,
		"/metrics/probes":   "",
	} {
		if code, body := ask(t, c, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %s", path, code, body, want)
		}
	}
	for _, path := range []string{"/stats/summary", "/pods", "/containerLogs/default/web/app"} {
		if code, body := ask(t, c, path); code != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	c.BearerToken = "bad"
	if code, body := ask(t, c, "/metrics"); code != http.StatusUnauthorized {
		t.Errorf("with a bad token: %d %s", code, body)
	}
	if code, body := ask(t, ca.client(l.cfg.ServerAddr.String(), ca, apiServer), "/stats/summary"); code != http.StatusOK || !strings.Contains(body, `"usageCoreNanoSeconds": 2500000000`) {
		t.Errorf("the summary: %d %s", code, body)
	}
}

func TestATakenPortFailsTheStart(t *testing.T) {
	l := newLab(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	l.cfg.ServerAddr = netip.MustParseAddrPort(taken.Addr().String())
	s, err := newKubeletServer(&Node{cfg: l.cfg})
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	if err := s.begin(t.Context(), func(error) {}); err == nil || !strings.Contains(err.Error(), "stop what has the port") {
		t.Errorf("got %v", err)
	}
}

// TestNodeMoves: the machine gets another address while a pod runs on it.
func TestNodeMoves(t *testing.T) {
	l := newLab(t)
	ca := l.kubelet()
	hosted := pod("hosted")
	hosted.Spec.HostNetwork = true
	l.create(hosted)
	l.create(pod("web"))
	first := l.wantPod("web", isReady).Status.ContainerStatuses[0].ContainerID
	l.wantPod("hosted", isReady)
	c := ca.client(l.cfg.ServerAddr.String(), ca, apiServer)
	to := netip.MustParseAddr("127.83.4.1")
	if err := l.node.SetAddrs([]netip.Addr{to}, l.cfg.ServingCert); err != nil {
		t.Fatal(err)
	}
	l.wantPod("web", func(p *corev1.Pod) bool { return p.Status.HostIP == to.String() })
	l.wantPod("hosted", func(p *corev1.Pod) bool { return p.Status.PodIP == to.String() && len(p.Status.HostIPs) == 1 })
	l.eventually("the node's object", func() string {
		n, err := l.client.CoreV1().Nodes().Get(t.Context(), l.cfg.Name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		if len(n.Status.Addresses) != 2 || n.Status.Addresses[0].Address != to.String() {
			return fmt.Sprintf("addresses %v", n.Status.Addresses)
		}
		return ""
	})
	if now := l.get("web").Status.ContainerStatuses[0].ContainerID; now != first {
		t.Errorf("the pod was started again: %s, was %s", now, first)
	}
	c.Host = "https://" + netip.AddrPortFrom(to, l.cfg.ServerAddr.Port()).String()
	c.TLSClientConfig.ServerName = l.cfg.ServerAddr.Addr().String()
	if code, body := ask(t, c, "/healthz"); code != http.StatusOK {
		t.Errorf("at the new address: %d %s", code, body)
	}
	if _, err := net.Dial("tcp", l.cfg.ServerAddr.String()); err == nil {
		t.Error("the address before is still served")
	}
	// inside of the process it does not matter where that is
	c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return l.node.Dial(ctx) }
	if code, body := ask(t, c, "/healthz"); code != http.StatusOK {
		t.Errorf("inside: %d %s", code, body)
	}
}

func TestLogs(t *testing.T) {
	l := newLab(t)
	ca := l.kubelet()
	c := ca.client(l.cfg.ServerAddr.String(), ca, apiServer)
	l.create(pod("web"))
	l.wantPod("web", isReady)
	path := "/containerLogs/default/web/app"
	if code, body := ask(t, c, path); code != http.StatusOK || !strings.HasPrefix(body, "hello from c") {
		t.Errorf("got %d %q", code, body)
	}
	first := l.get("web").Status.ContainerStatuses[0].ContainerID
	if code, body := ask(t, c, path+"?previous=true"); code != http.StatusBadRequest || body != "previous terminated container \"app\" in pod \"web\" not found\n" {
		t.Errorf("got %d %q", code, body)
	}
	l.rt.crash("app", 1)
	l.wantPod("web", func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].ContainerID != first })
	if _, body := ask(t, c, path+"?previous=true"); body != "hello from "+strings.TrimPrefix(first, "fake://")+"\n" {
		t.Errorf("previous log is %q", body)
	}
	if _, body := ask(t, c, path+"?timestamps=true&tailLines=1&limitBytes=4"); len(body) != 4 || !strings.HasPrefix(body, "20") {
		t.Errorf("got %q", body)
	}
	for bad, want := range map[string]int{
		path + "?tailLines=-1": http.StatusUnprocessableEntity, path + "?sinceTime=x": http.StatusUnprocessableEntity,
		"/containerLogs/default/web/none": http.StatusNotFound, "/containerLogs/default/none/app": http.StatusNotFound,
	} {
		if code, body := ask(t, c, bad); code != want {
			t.Errorf("%s gives %d, want %d: %s", bad, code, want, body)
		}
	}
}

func TestRotationKeepsFiveLogs(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/0.log"
	for i := range 8 {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := compressRotated(path, 5); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path, fmt.Sprintf("%s.2026010%d-000000.000", path, i)); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := "0.log.20260104-000000.000.gz 0.log.20260105-000000.000.gz 0.log.20260106-000000.000.gz 0.log.20260107-000000.000"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if next := nextAttempt(dir); next != 1 {
		t.Errorf("the next log is number %d", next)
	}
}

// portRecorder notes which ports a client wants to have forwarded, and forwards none.
type portRecorder struct {
	*fakeRuntime
	asked chan []int32
}

func (r portRecorder) PortForward(_ context.Context, request *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	r.asked <- request.Port
	return nil, grpcstatus.Error(codes.Unimplemented, "no ports")
}

func TestPortsToForwardReachTheRuntime(t *testing.T) {
	l := newLab(t)
	recorder := portRecorder{l.rt, make(chan []int32, 1)}
	l.cfg.Runtime = recorder
	ca := l.kubelet()
	client, err := rest.HTTPClientFor(ca.client(l.cfg.ServerAddr.String(), ca, apiServer))
	if err != nil {
		t.Fatal(err)
	}
	l.create(pod("web"))
	l.wantPod("web", isReady)
	for _, c := range []struct {
		upgrade, query string
		code           int
		want           []int32
	}{
		{"websocket", "?port=80,81", http.StatusNotImplemented, []int32{80, 81}},
		{"websocket", "?port=http", http.StatusBadRequest, nil},
		{"SPDY/3.1", "", http.StatusNotImplemented, nil}, // each of its streams says to which port it goes
	} {
		request, err := http.NewRequest(http.MethodGet, "https://"+l.cfg.ServerAddr.String()+"/portForward/default/web"+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Connection", "Upgrade")
		request.Header.Set("Upgrade", c.upgrade)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.code {
			t.Errorf("%s%s: %s, want %d", c.upgrade, c.query, response.Status, c.code)
		}
		if c.code != http.StatusNotImplemented {
			continue
		}
		if got := <-recorder.asked; !slices.Equal(got, c.want) {
			t.Errorf("%s%s: the runtime is asked for %v, want %v", c.upgrade, c.query, got, c.want)
		}
	}
}
