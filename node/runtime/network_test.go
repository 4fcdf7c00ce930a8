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

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/process"
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
	shim := l.shimProcess()
	l.stop()
	if err := Cleanup(context.Background(), l.dir); err != nil {
		t.Fatal(err)
	}
	if after := sh(t, "ip -o link | cut -d: -f2; ip route; nft list ruleset; ls /run/netns; cat /proc/sys/net/ipv4/ip_forward"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if shim.Alive() || len(processesWith(t, "12345")) != 0 {
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
		{apart, "", "one range of users"},
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
