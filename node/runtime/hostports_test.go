package runtime

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/listeners"
	"svcplane/node/runtime/process"
	"svcplane/node/runtime/sandbox"
)

func TestHostPorts(t *testing.T) {
	l := newLab(t)
	config := podConfig("published")
	config.PortMappings = []*runtimeapi.PortMapping{{HostPort: 18080, ContainerPort: 8080}, {HostPort: 15353, ContainerPort: 5353, Protocol: runtimeapi.Protocol_UDP}}
	pod := l.sandbox(config)
	id := l.run(pod, withPorts(containerConfig("svcplane/echo"), `[{"containerPort":8080},{"containerPort":5353,"protocol":"UDP"}]`))
	published := "curl -s --max-time 3 http://192.0.2.10:18080/hostname"
	if got := inLAN(t, published); got != "published" {
		t.Errorf("from the LAN the host port answers %q", got)
	}
	if got := sh(t, published); got != "published" {
		t.Errorf("from the node the host port answers %q", got)
	}
	if got := sh(t, "curl -s --max-time 3 http://127.0.0.1:18080/hostname"); got != "published" {
		t.Errorf("at the node's loopback the host port answers %q", got)
	}
	if got := sh(t, "echo hostname | nc -u -w1 127.0.0.1 15353"); got != "published" {
		t.Errorf("at the node's loopback the UDP host port answers %q", got)
	}
	if got := l.sh(id, published); got != "published" {
		t.Errorf("from the pod itself the host port answers %q", got)
	}
	if got := inLAN(t, "echo hostname | nc -u -w1 192.0.2.10 15353"); got != "published" {
		t.Errorf("the UDP host port answers %q", got)
	}
	l.stop()
	l.start()
	if got := inLAN(t, published); got != "published" {
		t.Errorf("after a restart the host port answers %q", got)
	}
	rival := podConfig("rival")
	rival.PortMappings = config.PortMappings[:1]
	if _, err := l.RunPodSandbox(context.Background(), rival, ""); err == nil || !strings.Contains(err.Error(), "pod default/published has it") {
		t.Errorf("a second pod on the same host port: %v", err)
	}
	if err := l.StopPodSandbox(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	if rules := sh(t, "nft list table ip svcplane-pods"); strings.Contains(rules, "18080") {
		t.Errorf("the rule of a stopped pod is still there: %s", rules)
	}
}

// A client that sends from one port all the time, as many of UDP do, reaches the pod that has the host port now: also when it
// began before there was one, on every address, in both directions of what a pod that has gone began itself.
func TestHostPortFlowsFollowThePods(t *testing.T) {
	l := newLab(t)
	published := func(name, hostIP string) string {
		config := podConfig(name)
		config.PortMappings = []*runtimeapi.PortMapping{{HostPort: 15353, ContainerPort: 5353, Protocol: runtimeapi.Protocol_UDP, HostIp: hostIP}}
		pod := l.sandbox(config)
		l.run(pod, withPorts(containerConfig("svcplane/echo"), `[{"containerPort":5353,"protocol":"UDP"}]`))
		return pod
	}
	clients := map[string]*net.UDPConn{}
	dial := func(what, to string) {
		conn, err := net.Dial("udp4", to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		clients[what] = conn.(*net.UDPConn)
	}
	if err := process.InNet("/run/netns/"+lanNamespace, func() error { dial("from the LAN", "192.0.2.10:15353"); return nil }); err != nil {
		t.Fatal(err)
	}
	dial("from the node", "192.0.2.10:15353")
	dial("at the node's loopback", "127.0.0.1:15353")
	ask := func(client *net.UDPConn) string {
		client.Write([]byte("hostname")) // the one before may have been refused, which shows here
		client.SetReadDeadline(time.Now().Add(time.Second))
		buf := make([]byte, 100)
		n, err := client.Read(buf)
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(buf[:n]))
	}
	reaches := func(when, want string, whom ...string) {
		t.Helper()
		for _, what := range whom {
			got := ask(clients[what])
			for deadline := time.Now().Add(10 * time.Second); got != want && time.Now().Before(deadline); {
				got = ask(clients[what])
			}
			if got != want {
				t.Errorf("%s, %s: %q answers, want %q", when, what, got, want)
			}
		}
	}
	for _, client := range clients {
		ask(client)
	}
	all := []string{"from the LAN", "from the node", "at the node's loopback"}
	first := published("first", "")
	reaches("that began before the pod", "first", all...)
	stop := func(pod string) {
		if err := l.StopPodSandbox(context.Background(), pod); err != nil {
			t.Fatal(err)
		}
	}
	stop(first)
	for _, client := range clients {
		ask(client)
	}
	second := published("second", "")
	reaches("after the pod", "second", all...)
	stop(second)
	published("third", "192.0.2.10")
	reaches("on a host address", "third", "from the LAN", "from the node")
}

// What a pod that has gone began is not there for the next pod that gets its address.
func TestFlowsEndWithTheirPod(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("asker"))
	id, ip := l.run(pod, containerConfig("svcplane/echo")), l.ip(pod)
	l.sh(id, "echo hello >/dev/udp/192.0.2.99/5000 || bash -c 'echo hello >/dev/udp/192.0.2.99/5000'")
	tracked := func() bool { return strings.Contains(sh(t, "conntrack -L -s "+ip+" 2>/dev/null || true"), ip) }
	if !tracked() {
		t.Fatal("the kernel's table does not know what the pod has begun")
	}
	if err := l.StopPodSandbox(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	if tracked() {
		t.Error("the pod has gone, and the kernel's table holds what it began")
	}
}

// TestHostPortsSpareOwnListeners: what svcplane listens on is not led to a pod, whatever the pod asks for; nor is it after a
// start that finds the rules of one before.
func TestHostPortsSpareOwnListeners(t *testing.T) {
	l := newLab(t)
	sh(t, "ip address add 10.96.0.10/32 dev lo")
	t.Cleanup(func() { sh(t, "ip address del 10.96.0.10/32 dev lo") })
	config := podConfig("greedy")
	for _, port := range []int32{16443, 10053, 18080} {
		config.PortMappings = append(config.PortMappings, &runtimeapi.PortMapping{HostPort: port, ContainerPort: 8080})
	}
	pod := l.sandbox(config)
	id := l.run(pod, withPorts(containerConfig("svcplane/echo"), `[{"containerPort":8080}]`))
	serve := func(at string) {
		listener, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "own") })}
		go server.Serve(listener)
		t.Cleanup(func() { server.Close() })
		l.own = append(l.own, listeners.Listener{At: netip.MustParseAddrPort(at), Protocol: corev1.ProtocolTCP, Owner: "the test"})
	}
	serve("[::]:16443")
	serve("10.96.0.10:10053")
	const get = "curl -s --max-time 3 http://%s/hostname"
	if got := sh(t, fmt.Sprintf(get, "127.0.0.1:16443")); got != "greedy" {
		t.Fatalf("before anybody says that the port is svcplane's own, %q answers", got)
	}
	l.stop()
	l.start()
	for at, want := range map[string]string{
		"192.0.2.10:16443": "own", "10.96.0.10:16443": "own", "10.96.0.10:10053": "own", "192.0.2.10:10053": "greedy", "192.0.2.10:18080": "greedy",
	} {
		if got := sh(t, fmt.Sprintf(get, at)); got != want {
			t.Errorf("from the node %q answers at %s, want %q", got, at, want)
		}
		if got := l.sh(id, fmt.Sprintf(get, at)); got != want {
			t.Errorf("from a pod %q answers at %s, want %q", got, at, want)
		}
		if strings.HasPrefix(at, "192") {
			if got := inLAN(t, fmt.Sprintf(get, at)); got != want {
				t.Errorf("from the LAN %q answers at %s, want %q", got, at, want)
			}
		}
	}
	if got := sh(t, fmt.Sprintf(get, "127.0.0.1:16443")); got != "own" {
		t.Errorf("at the node's loopback %q answers", got)
	}
}

// A pod with a host port must not get at what listens on the node's loopback only.
func TestHostPortDoesNotOpenLoopback(t *testing.T) {
	l := newLab(t)
	config := podConfig("curious")
	config.PortMappings = []*runtimeapi.PortMapping{{HostPort: 18080, ContainerPort: 8080}}
	pod := l.sandbox(config)
	private, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer private.Close()
	port := private.LocalAddr().(*net.UDPAddr).Port
	// What a pod with raw sockets can always do is easier to try without addresses of loopback in it.
	inPod := func(script string) {
		t.Helper()
		sh(t, fmt.Sprintf("nsenter --net=/run/netns/%s bash -ec '%s'", sandbox.NetnsName(pod), script))
	}
	inPod("ip address del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 169.254.1.1 dev eth0 onlink; echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet")
	send := func(text string) { inPod(fmt.Sprintf("echo -n %s >/dev/udp/127.0.0.1/%d", text, port)) }
	send("stray")
	sh(t, "nft flush chain ip svcplane-pods guard")
	send("control") // without the guard it gets through, or else this test has tried nothing
	buf := make([]byte, 100)
	private.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, _, err := private.ReadFromUDP(buf); err != nil || string(buf[:n]) != "control" {
		t.Errorf("the first to arrive is %q, %v", buf[:n], err)
	}
}
