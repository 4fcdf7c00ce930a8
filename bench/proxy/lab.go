package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
)

// network is the namespaces of one contender: its node, a client and a pod on it, a neighbour on its LAN, joined to
// the API's namespace.
type network struct {
	api, node, client, pod, lan string
	index                       int
}

// neighbour is the n-th of the addresses that the neighbour on the LAN has.
func neighbour(n int) [4]byte { return [4]byte{198, 18, 0, byte(1 + n%250)} }

// apiAddr is where the API server listens, in a namespace of its own.
const apiAddr = "172.30.0.1"

func (n network) nodeIP() string { return fmt.Sprintf("172.30.%d.2", n.index) }

// script runs lines of shell, and says which one failed.
func script(text string) error {
	cmd := exec.Command("bash", "-euc", "set -o pipefail; trap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n"+text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (n network) up() error {
	return script(strings.NewReplacer("API", n.api, "NODE", n.node, "CLIENT", n.client, "POD", n.pod, "LAN", n.lan, "IDX", fmt.Sprint(n.index)).Replace(`
for ns in NODE CLIENT POD LAN; do ip netns add $ns; ip -n $ns link set lo up; done
ip -n API link add vIDX type veth peer name eth0 netns NODE
ip -n API addr add 172.30.IDX.1/24 dev vIDX; ip -n API link set vIDX up
ip -n NODE addr add 172.30.IDX.2/24 dev eth0; ip -n NODE link set eth0 up
ip -n NODE route add default via 172.30.IDX.1
ip -n NODE link add vpod type veth peer name eth0 netns POD
ip -n NODE addr add 192.168.1.1/24 dev vpod; ip -n NODE link set vpod up
ip -n POD addr add 192.168.1.2/24 dev eth0; ip -n POD link set eth0 up
ip -n POD route add default via 192.168.1.1
ip -n POD route add local 10.244.0.0/17 dev lo
ip -n NODE route add 10.244.0.0/17 via 192.168.1.2
ip -n NODE route add 10.244.127.254 via 192.168.1.2
ip -n NODE link add vcli type veth peer name eth0 netns CLIENT
ip -n NODE addr add 192.168.2.1/24 dev vcli; ip -n NODE link set vcli up
ip -n CLIENT addr add 192.168.2.2/24 dev eth0; ip -n CLIENT link set eth0 up
ip -n CLIENT addr add 10.244.255.2/32 dev lo
ip -n CLIENT route add default via 192.168.2.1 src 10.244.255.2
ip -n NODE route add 10.244.255.2 via 192.168.2.2
ip -n NODE link add vlan type veth peer name eth0 netns LAN
ip -n NODE addr add 192.168.3.1/24 dev vlan; ip -n NODE link set vlan up
ip -n LAN addr add 192.168.3.2/24 dev eth0; ip -n LAN link set eth0 up
ip -n LAN route add default via 192.168.3.1
ip -n LAN route add local 198.18.0.0/24 dev lo
ip -n NODE route add 198.18.0.0/24 via 192.168.3.2
nsenter --net=/run/netns/NODE sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
nsenter --net=/run/netns/NODE iptables-nft -t nat -L -n >/dev/null
nsenter --net=/run/netns/NODE sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close=1 net.netfilter.nf_conntrack_udp_timeout=2
nsenter --net=/run/netns/NODE nft flush ruleset
nsenter --net=/run/netns/CLIENT sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.ip_local_port_range="10000 65000"
nsenter --net=/run/netns/LAN sysctl -qw net.ipv4.conf.all.rp_filter=0
nsenter --net=/run/netns/POD sysctl -qw net.ipv4.conf.all.rp_filter=0 net.core.somaxconn=4096
` + podRoutes()))
}

// podRoutes lead to each endpoint of the special Services, as a node's do to each pod; the one to all others stands for
// thousands of them.
func podRoutes() string {
	var text strings.Builder
	for n := range specialServices {
		for j := range endpoints {
			fmt.Fprintf(&text, "ip -n NODE route add %s via 192.168.1.2\n", endpoint(firstSpecial+n, j))
		}
	}
	return text.String()
}

// down removes the namespaces; what is not there is not missed.
func (n network) down() {
	_ = exec.Command("ip", "-n", n.api, "link", "del", fmt.Sprintf("v%d", n.index)).Run()
	for _, ns := range []string{n.node, n.client, n.pod, n.lan} {
		_ = exec.Command("ip", "netns", "del", ns).Run()
	}
}

// within runs f on a thread in a namespace; sockets made in it stay there.
func within(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		handle, err := netns.GetFromName(ns)
		if err == nil {
			err = netns.Set(handle)
			handle.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// place is where a client or a pod is.
type place struct {
	ns     string
	cgroup cgroup // "": where this process is
}

// do runs f on a thread there.
func (p place) do(f func() error) error {
	return within(p.ns, func() error {
		if err := p.cgroup.join(); err != nil {
			return err
		}
		return f()
	})
}

// inside is a command in a namespace, with its output in a file.
func inside(ns, log string, words ...string) (*exec.Cmd, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command("nsenter", append([]string{"--net=/run/netns/" + ns, "--"}, words...)...)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, cmd.Start()
}
