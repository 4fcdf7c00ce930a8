package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"svcplane/node/runtime/podnet"
	"svcplane/node/runtime/process"
)

// bed is a data directory, with or without a server.
type bed struct {
	t    *testing.T
	dir  string
	stop func()
}

func newBed(t *testing.T) *bed {
	b := &bed{t: t, dir: filepath.Join(t.TempDir(), strings.Repeat("long", 30), "cni")} // longer than addresses of sockets may be
	t.Cleanup(func() {
		if b.stop != nil {
			b.stop()
		}
		if err := podnet.Cleanup(filepath.Dir(b.dir)); err != nil {
			t.Error(err)
		}
		if err := Cleanup(b.dir); err != nil {
			t.Error(err)
		}
	})
	b.start()
	return b
}

func (b *bed) start() *Server {
	b.t.Helper()
	network, err := podnet.New(podnet.Config{
		Dir: filepath.Dir(b.dir), PodCIDR: netip.MustParsePrefix("10.244.0.0/24"), PodCIDR6: netip.MustParsePrefix("fd00:244::/64"),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	s := New(Config{Dir: b.dir, Executable: executable, Network: network})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-ended:
		b.t.Fatal(err)
	}
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
		b.stop = nil
	}
	return s
}

// plug executes a plugin as a runtime does; extra goes into its configuration.
func (b *bed) plug(plugin, command, id, netns, ifName, version string, extra map[string]any) ([]byte, *types.Error) {
	b.t.Helper()
	raw, err := configuration(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	var list struct{ Plugins []map[string]any }
	if err := json.Unmarshal(raw, &list); err != nil {
		b.t.Fatal(err)
	}
	conf := list.Plugins[0]
	conf["cniVersion"], conf["name"] = version, "svcplane"
	for key, value := range extra {
		conf[key] = value
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(BinDir(b.dir), plugin))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+id, "CNI_NETNS="+netns, "CNI_IFNAME="+ifName, "CNI_PATH="+BinDir(b.dir),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-"+id)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	failed := &types.Error{}
	if err := json.Unmarshal(out, failed); err != nil {
		b.t.Fatalf("%s of %s fails without an error of CNI: %s", command, id, out)
	}
	return nil, failed
}

// add joins a pod, and gives its addresses.
func (b *bed) add(id string, ports ...portMapping) []string {
	b.t.Helper()
	b.sh("ip netns add " + id)
	out, failed := b.plug(pluginName, commandAdd, id, "/run/netns/"+id, podLink, "1.0.0", runtimeConfig(ports))
	if failed != nil {
		b.t.Fatal(failed)
	}
	result := &types100.Result{}
	if err := json.Unmarshal(out, result); err != nil {
		b.t.Fatal(err)
	}
	var addrs []string
	for _, ip := range result.IPs {
		addrs = append(addrs, ip.Address.IP.String())
	}
	return addrs
}

func runtimeConfig(ports []portMapping) map[string]any {
	return map[string]any{"runtimeConfig": map[string]any{"portMappings": ports}}
}

func (b *bed) do(command, id string) *types.Error {
	b.t.Helper()
	_, failed := b.plug(pluginName, command, id, "/run/netns/"+id, podLink, "1.0.0", nil)
	return failed
}

func (b *bed) sh(script string) string {
	b.t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// remove deletes a namespace; the kernel takes its link away some time later.
func (b *bed) remove(id string) {
	b.t.Helper()
	b.sh("ip netns del " + id)
	for a := (&attachment{ContainerID: id}); a.hasLink(); time.Sleep(10 * time.Millisecond) {
		if b.t.Context().Err() != nil {
			b.t.Fatalf("the link of %s stays", id)
		}
	}
}

// reach has one pod connect to another.
func (b *bed) reach(from, to, addr string) {
	b.t.Helper()
	var listener net.Listener
	err := process.InNet("/run/netns/"+to, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "8000"))
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	defer listener.Close()
	err = process.InNet("/run/netns/"+from, func() error {
		fd, err := unix.Socket(familyOf(addr), unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, sockaddr(addr, 8000))
	})
	if err != nil {
		b.t.Errorf("%s does not reach %s at %s: %v", from, to, addr, err)
	}
}

func familyOf(addr string) int {
	if netip.MustParseAddr(addr).Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func sockaddr(addr string, port int) unix.Sockaddr {
	a := netip.MustParseAddr(addr)
	if a.Is6() {
		return &unix.SockaddrInet6{Port: port, Addr: a.As16()}
	}
	return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
}

// TestPodsOfAnotherRuntime: an ID of containerd's kind names the link, any other has one all the same.
func TestPodsOfAnotherRuntime(t *testing.T) {
	b := newBed(t)
	const id = "0123456789abcdef0123456789abcdef"
	addrs := b.add(id, portMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"})
	if len(addrs) != 2 || addrs[0] != "10.244.0.1" || addrs[1] != "fd00:244::1" {
		t.Errorf("the pod has the addresses %v", addrs)
	}
	other := b.add("sandbox_of-cri.o")
	b.sh("ip link show sp0123456789ab")
	for _, addr := range other {
		b.reach(id, "sandbox_of-cri.o", addr)
	}
	if rules := b.sh("nft list table ip svcplane-pods"); !strings.Contains(rules, "10.244.0.1:80") {
		t.Errorf("no rule leads the host port to the pod:\n%s", rules)
	}
	if failed := b.do(commandCheck, id); failed != nil {
		t.Error(failed)
	}
	b.sh("ip netns exec " + id + " ip address flush dev eth0")
	if failed := b.do(commandCheck, id); failed == nil || !strings.Contains(failed.Msg, "has not the address 10.244.0.1") {
		t.Errorf("CHECK of a pod without its address: %v", failed)
	}
	for range 2 { // DEL may be repeated
		if failed := b.do(commandDel, id); failed != nil {
			t.Error(failed)
		}
	}
	if left := b.sh("ip -br link; ls /run/netns; nft list table ip svcplane-pods"); strings.Contains(left, "0123456789ab@") || strings.Contains(left, "sp-0123456789ab") || strings.Contains(left, "10.244.0.1:80") {
		t.Errorf("DEL leaves something:\n%s", left)
	}
	if failed := b.do(commandCheck, id); failed == nil || failed.Code != types.ErrUnknownContainer {
		t.Errorf("CHECK of a pod that has gone: %v", failed)
	}
}

// TestAddressesSurviveARestart, and those of pods whose namespace has gone meanwhile are free.
func TestAddressesSurviveARestart(t *testing.T) {
	b := newBed(t)
	kept, lost := b.add("kept"), b.add("lost")
	b.stop()
	b.remove("lost")
	s := b.start()
	if s.Pods() != 1 {
		t.Errorf("%d pods are adopted, want that which is there", s.Pods())
	}
	if _, err := os.Stat(recordPath(b.dir, "lost")); err == nil {
		t.Error("the record of a pod whose namespace has gone stays")
	}
	if failed := b.do(commandCheck, "kept"); failed != nil {
		t.Error(failed)
	}
	seen := map[string]bool{kept[0]: true}
	for i := range 253 { // all others, the freed one among them
		ip, _, err := s.cfg.Network.Take(strings.Repeat("0", 12) + string(rune('a'+i%26)) + strings.Repeat("1", i/26))
		if err != nil {
			t.Fatalf("after %d addresses: %v", i, err)
		}
		if seen[ip.String()] {
			t.Fatalf("%s is given out twice", ip)
		}
		seen[ip.String()] = true
	}
	if !seen[lost[0]] {
		t.Errorf("%s stays taken", lost[0])
	}
	b.remove("kept")
	s.sweep()
	if s.Pods() != 0 {
		t.Error("a pod whose namespace went while the server ran is not swept")
	}
}

// TestWithoutAServer: ADD fails and says why, DEL succeeds, and what it leaves is freed at the next start.
func TestWithoutAServer(t *testing.T) {
	b := newBed(t)
	b.add("pod")
	b.stop()
	if failed := b.do(commandAdd, "pod"); failed == nil || failed.Code != errNotAvailable || !strings.Contains(failed.Msg, "svcplane does not run") {
		t.Errorf("ADD: %v", failed)
	}
	if _, failed := b.plug(pluginName, commandStatus, "", "", "", "1.1.0", nil); failed == nil || failed.Code != errNotAvailable {
		t.Errorf("STATUS: %v", failed)
	}
	if failed := b.do(commandDel, "pod"); failed != nil {
		t.Errorf("DEL: %v", failed)
	}
	b.remove("pod")
	if s := b.start(); s.Pods() != 0 {
		t.Error("the pod is still known")
	}
	if _, failed := b.plug(pluginName, commandStatus, "", "", "", "1.1.0", nil); failed != nil {
		t.Errorf("STATUS: %v", failed)
	}
}

func TestRefusals(t *testing.T) {
	b := newBed(t)
	b.add("first", portMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"})
	b.sh("ip netns add second")
	for _, c := range []struct {
		ifName string
		port   portMapping
		want   string
	}{
		{podLink, portMapping{HostPort: 8080, ContainerPort: 81, Protocol: "tcp"}, "host port 8080/TCP of pod default/pod-second: pod default/pod-first has it"},
		{podLink, portMapping{HostPort: 9, ContainerPort: 9, Protocol: "sctp"}, "only TCP and UDP are served"},
		{podLink, portMapping{HostPort: 70000, ContainerPort: 9, Protocol: "tcp"}, "ports are from 1 to 65535"},
		{podLink, portMapping{HostPort: 7, ContainerPort: 9, Protocol: "tcp", HostIP: "nowhere"}, "hostIP of host port 7"},
		{"net1", portMapping{}, `CNI_IFNAME "net1"`},
	} {
		_, failed := b.plug(pluginName, commandAdd, "second", "/run/netns/second", c.ifName, "1.0.0", runtimeConfig([]portMapping{c.port}))
		if failed == nil || !strings.Contains(failed.Msg, c.want) {
			t.Errorf("%+v: %v, want %q", c, failed, c.want)
		}
	}
	if entries, err := os.ReadDir(podsDir(b.dir)); err != nil || len(entries) != 1 {
		t.Errorf("what was refused leaves records: %v, %v", entries, err)
	}
}

// TestCollect: GC removes what the runtime does not name.
func TestCollect(t *testing.T) {
	b := newBed(t)
	b.add("known")
	b.add("forgotten")
	if _, failed := b.plug(pluginName, commandGC, "", "", "", "1.1.0", map[string]any{"cni.dev/valid-attachments": []types.GCAttachment{{ContainerID: "known", IfName: podLink}}}); failed != nil {
		t.Fatal(failed)
	}
	if failed := b.do(commandCheck, "known"); failed != nil {
		t.Error(failed)
	}
	if failed := b.do(commandCheck, "forgotten"); failed == nil || failed.Code != types.ErrUnknownContainer {
		t.Errorf("the pod that the runtime forgot is still there: %v", failed)
	}
}

func TestLoopback(t *testing.T) {
	b := newBed(t)
	b.sh("ip netns add bare")
	if _, failed := b.plug(loopbackName, commandAdd, "bare", "/run/netns/bare", "lo", "0.3.1", map[string]any{"type": loopbackName}); failed != nil {
		t.Fatal(failed)
	}
	b.reach("bare", "bare", "127.0.0.1")
}

// TestASilentClientHoldsNobodyUp, and one that talks nonsense gets nothing.
func TestASilentClientHoldsNobodyUp(t *testing.T) {
	b := newBed(t)
	for _, text := range []string{"", "nonsense"} {
		conn, err := dial(b.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	b.add("pod")
}
