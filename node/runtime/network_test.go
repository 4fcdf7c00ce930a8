package runtime

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/listeners"
	"svcplane/node/process"
	"svcplane/node/sandbox"
)

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// inLAN runs a script on the machine beside the node.
func inLAN(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", lanNamespace, "sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestPodsReachEachOtherByTheirOwnAddresses(t *testing.T) {
	l := newLab(t)
	server, client := l.sandbox(podConfig("server")), l.sandbox(podConfig("client"))
	l.run(server, containerConfig("svcplane/echo"))
	id := l.run(client, containerConfig("svcplane/echo"))
	got := l.sh(id, "curl -s --max-time 3 http://"+l.ip(server)+":8080/clientip")
	if !strings.HasPrefix(got, l.ip(client)+":") {
		t.Errorf("the server sees the client pod as %s, want %s", got, l.ip(client))
	}
}

func TestPodsLeaveWithTheNodesAddress(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("traveller"))
	id := l.run(pod, containerConfig("svcplane/echo"))
	var lan net.Listener
	err := process.InNet("/run/netns/"+lanNamespace, func() (err error) {
		lan, err = net.Listen("tcp4", ":8000")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) })}
	go server.Serve(lan)
	t.Cleanup(func() { server.Close() })
	// The LAN has no route to pods, so without masquerading nothing would come back at all.
	if got := l.sh(id, "curl -s --max-time 3 http://192.0.2.99:8000/"); !strings.HasPrefix(got, "192.0.2.10:") {
		t.Errorf("the LAN sees the pod as %q, want the node's 192.0.2.10", got)
	}
}

func TestPodReachesItselfThroughAServiceAddress(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("narcissus"))
	id := l.run(pod, containerConfig("svcplane/echo"))
	// What a Service proxy does: the packet leaves by the veth it came from.
	sh(t, fmt.Sprintf(`nft -f - <<END
table ip hairpin {
	chain pre { type nat hook prerouting priority -100; ip daddr 10.96.5.5 tcp dport 80 dnat to %[1]s:8080; }
	chain post { type nat hook postrouting priority 90; ip saddr %[1]s ip daddr %[1]s masquerade; }
}
END`, l.ip(pod)))
	t.Cleanup(func() { sh(t, "nft delete table ip hairpin") })
	if got := l.sh(id, "curl -s --max-time 3 http://10.96.5.5/hostname"); got != "narcissus" {
		t.Errorf("through the Service address the pod gets %q from itself", got)
	}
}

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

func TestHostNetworkPod(t *testing.T) {
	l := newLab(t)
	config := podConfig("hostnet")
	config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	pod := l.sandbox(config)
	if ip := l.ip(pod); ip != "" {
		t.Errorf("a pod of the host's network has the address %s of its own", ip)
	}
	id := l.run(pod, withPorts(containerConfig("svcplane/echo"), `[{"containerPort":18099},{"containerPort":18099,"protocol":"UDP"}]`))
	if got := inLAN(t, "curl -s --max-time 3 http://192.0.2.10:18099/hostname"); got != "hostnet" {
		t.Errorf("it answers %q", got)
	}
	if got := l.sh(id, "ip -o link"); !strings.Contains(got, " lan@") {
		t.Errorf("exec is not in the host's network: %q", got)
	}
	// A datagram is answered from the address it was sent to, not from the one the route prefers.
	sh(t, "ip address add 192.0.2.77/24 dev lan")
	t.Cleanup(func() { sh(t, "ip address del 192.0.2.77/24 dev lan") })
	if got := inLAN(t, "echo hostname | nc -u -w1 192.0.2.77 18099"); got != "hostnet" {
		t.Errorf("over its second address the UDP port answers %q", got)
	}
}

func TestStartRemovesWhatACrashLeft(t *testing.T) {
	l := newLab(t)
	half := l.sandbox(podConfig("half"))
	entry, err := l.Runtime.sandbox(half)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.setSandboxState(entry, sandboxCreating); err != nil {
		t.Fatal(err)
	}
	l.stop()
	sh(t, "ip link add sp0123456789ab type veth peer name x0123456789ab; ip link add spare type veth peer name spare2")
	t.Cleanup(func() { sh(t, "ip link del spare") })
	l.start()
	links := sh(t, "ip -o link")
	if strings.Contains(links, "sp0123456789ab") || strings.Contains(links, "sp"+half[:12]) {
		t.Errorf("links of nobody are still there: %s", links)
	}
	if !strings.Contains(links, "spare") {
		t.Error("a link that is not ours was removed")
	}
	if list, err := l.ListPodSandbox(context.Background(), nil); err != nil || len(list) != 0 {
		t.Errorf("the half-made sandbox is listed: %v %v", list, err)
	}
}

func TestCleanupRestoresTheMachine(t *testing.T) {
	sh(t, "sysctl -q -w net.ipv4.ip_forward=0")
	before := sh(t, "ip -o link | cut -d: -f2; ip route; nft list ruleset; ls /run/netns; cat /proc/sys/net/ipv4/ip_forward")
	l := newLab(t)
	pod := l.sandbox(podConfig("trace"))
	l.run(pod, containerConfig("svcplane/echo"))
	l.run(pod, containerConfig("svcplane/host", "sleep", "12345"))
	holder := l.holderProcess()
	l.stop()
	if err := Cleanup(context.Background(), l.dir); err != nil {
		t.Fatal(err)
	}
	if after := sh(t, "ip -o link | cut -d: -f2; ip route; nft list ruleset; ls /run/netns; cat /proc/sys/net/ipv4/ip_forward"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if holder.Alive() || len(processesWith(t, "12345")) != 0 {
		t.Error("processes are left")
	}
}

func TestPodSysctls(t *testing.T) {
	l := newLab(t)
	config := podConfig("tuned")
	config.Linux.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1", "net.ipv4.ip_unprivileged_port_start": "81"}
	id := l.run(l.sandbox(config), containerConfig("svcplane/echo"))
	const read = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start"
	if got := l.sh(id, read); got != "1\n81" {
		t.Errorf("in the pod they are %q", got)
	}
	if got := sh(t, read); got == "1\n81" {
		t.Errorf("on the node they are %q too", got)
	}
}

// TestSandboxesThatCannotBeMade holds that a sandbox is not made with less isolation than was asked for.
func TestSandboxesThatCannotBeMade(t *testing.T) {
	l := newLab(t)
	apart := podConfig("apart")
	apart.Linux = &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: &runtimeapi.NamespaceOption{UsernsOptions: &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD}},
	}}
	for _, tt := range []struct {
		config        *runtimeapi.PodSandboxConfig
		handler, want string
	}{
		{apart, "", "remove hostUsers: false"},
		{podConfig("classed"), "runsc", "remove runtimeClassName"},
	} {
		if _, err := l.RunPodSandbox(t.Context(), tt.config, tt.handler); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("a sandbox of %s: %v, want %q", tt.config.GetMetadata().GetName(), err, tt.want)
		}
	}
	if list, err := l.ListPodSandbox(t.Context(), nil); err != nil || len(list) > 0 {
		t.Errorf("there are %d sandboxes, %v", len(list), err)
	}
}

// TestRoutesOutliveTheNodesAddress: the kernel takes away the routes that name an address which goes, also while no
// runtime runs.
func TestRoutesOutliveTheNodesAddress(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("server"))
	l.run(pod, containerConfig("svcplane/echo"))
	asked := func() string { return sh(t, "curl -s --max-time 3 http://"+l.ip(pod)+":8080/clientip") }
	sh(t, "ip addr add 198.51.100.1/32 dev lo; ip addr add 198.51.100.2/32 dev lo")
	t.Cleanup(func() { sh(t, "ip addr del 198.51.100.2/32 dev lo") })
	if err := l.SetNodeIPs([]netip.Addr{netip.MustParseAddr("198.51.100.1")}); err != nil {
		t.Fatal(err)
	}
	if got := asked(); !strings.HasPrefix(got, "198.51.100.1:") {
		t.Errorf("the node comes as %s", got)
	}
	sh(t, "ip addr del 198.51.100.1/32 dev lo")
	if got := asked(); got == "" {
		t.Errorf("the pod is out of reach: %s", sh(t, "ip route show table main"))
	}
	if err := l.SetNodeIPs([]netip.Addr{netip.MustParseAddr("198.51.100.2")}); err != nil {
		t.Fatal(err)
	}
	if got := asked(); !strings.HasPrefix(got, "198.51.100.2:") {
		t.Errorf("the node comes as %s", got)
	}
}

// TestAdoptionLeadsToPods: routes that went between two runs are made again.
func TestAdoptionLeadsToPods(t *testing.T) {
	l := newLab(t)
	pod := l.sandbox(podConfig("server"))
	l.run(pod, containerConfig("svcplane/echo"))
	l.stop()
	sh(t, "ip route flush "+l.ip(pod)+"/32")
	l.start()
	if got := sh(t, "curl -s --max-time 3 http://"+l.ip(pod)+":8080/clientip || true"); got == "" {
		t.Errorf("the pod is out of reach: %s", sh(t, "ip route show table main"))
	}
}
