package ebpf

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"svcplane/catalog"
	"svcplane/proxy/proxytest"
)

// talk is both ends of a connection to an endpoint.
type talk struct {
	what           string
	client, server net.Conn
}

// goes on when each end hears the other, whoever speaks first.
func (c talk) goes(t *testing.T, when string, ends ...net.Conn) {
	t.Helper()
	for i, from := range ends {
		to := ends[1-i]
		must(t, errors.Join(from.SetDeadline(time.Now().Add(5*time.Second)), to.SetDeadline(time.Now().Add(5*time.Second))))
		_, err := from.Write([]byte("x"))
		if err == nil {
			_, err = to.Read(make([]byte, 1))
		}
		if err != nil {
			t.Errorf("%s: %s: %v", when, c.what, err)
		}
	}
}

// talks are conversations with pod a: of every kind of client, through every kind of address.
type talks struct {
	t        *testing.T
	lab      *proxytest.Lab
	listener net.Listener
	port     uint16
	all      []talk
}

// newTalks listens in pod a, on a node that masquerades its pods to the outside.
func newTalks(t *testing.T, lab *proxytest.Lab) *talks {
	t.Helper()
	if out, err := exec.Command("nft", "add table ip pods; add chain ip pods postrouting { type nat hook postrouting priority srcnat; }; add rule ip pods postrouting ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := &talks{t: t, lab: lab}
	in(t, lab.Hosts["a"], func() (err error) { c.listener, err = net.Listen("tcp", "[::]:0"); return err })
	t.Cleanup(func() { c.listener.Close() })
	c.port = netip.MustParseAddrPort(c.listener.Addr().String()).Port()
	return c
}

// services are those that the conversations need.
func (c *talks) services() []*catalog.Service {
	service := web(c.lab, "a")[0]
	for i, e := range service.Ports[0].Endpoints {
		service.Ports[0].Endpoints[i].AddrPort = netip.AddrPortFrom(e.Addr(), c.port)
	}
	local := *service
	local.Name, local.ClusterIPs, local.ExternalLocal = "local", []netip.Addr{netip.MustParseAddr("10.96.0.6")}, true
	local.Ports = []catalog.Port{service.Ports[0]}
	local.Ports[0].NodePort = 30090
	return []*catalog.Service{service, &local}
}

// dial begins a conversation of each kind.
func (c *talks) dial() {
	c.t.Helper()
	pod := netip.AddrPortFrom(c.lab.Hosts["a"].IPv4, c.port).String()
	for _, way := range [][2]string{
		{"client", "192.0.2.1:30080"}, {"client", "192.0.2.1:30090"}, {"client", "10.96.0.5:80"}, {"client", "[2001:db8:1::1]:30080"},
		{"c", "192.0.2.1:30080"}, {"c", "10.96.0.5:80"}, {"c", pod}, {"a", "10.96.0.5:80"}, {"node", "10.96.0.5:80"},
	} {
		one := talk{what: way[0] + " -> " + way[1]}
		in(c.t, c.lab.Hosts[way[0]], func() (err error) { one.client, err = net.DialTimeout("tcp", way[1], 5*time.Second); return err })
		server, err := c.listener.Accept()
		must(c.t, err)
		one.server = server
		c.t.Cleanup(func() { one.client.Close(); one.server.Close() })
		c.all = append(c.all, one)
	}
}

// speak has the endpoint begin: netfilter may not have seen who dialled.
func (c *talks) speak(when string) {
	c.t.Helper()
	for _, one := range c.all {
		one.goes(c.t, when, one.server, one.client)
	}
}

// TestBypass: connections of every kind take the bypass, where the node's own connection table sees nothing of them, and
// live when it ends, begins again, and when another data plane is to see them.
func TestBypass(t *testing.T) {
	lab := proxytest.NewLab(t)
	d := open(t, lab)
	c := newTalks(t, lab)
	must(t, d.Resync(t.Context(), lab.Table(c.services()...)))
	must(t, d.Bypass(true))
	c.dial()
	c.speak("on the bypass")
	for _, one := range c.all {
		if client := netip.MustParseAddrPort(one.client.LocalAddr().String()).Addr(); client != lab.Node.Addrs[0] && tracks(t, client) {
			t.Errorf("%s: the node's connection table has seen it", one.what)
		}
	}
	must(t, d.Bypass(false))
	c.speak("through the stack")
	c.dial()
	must(t, d.Bypass(true))
	c.speak("on the bypass again")
	must(t, d.Act(t.Context(), 0))
	c.speak("beside another data plane")
}

// tracks says whether the kernel's connection table has anything of a client's.
func tracks(t *testing.T, client netip.Addr) bool {
	family := netlink.InetFamily(netlink.FAMILY_V4)
	if client.Is6() {
		family = netlink.FAMILY_V6
	}
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
	must(t, err)
	for _, f := range flows {
		if addr, _ := netip.AddrFromSlice(f.Forward.SrcIP); addr.Unmap() == client {
			return true
		}
	}
	return false
}

// TestPodsSpeakForThemselves: a packet with another pod's address as its source does not take the bypass.
func TestPodsSpeakForThemselves(t *testing.T) {
	lab, d := lived(t)
	must(t, d.Bypass(true))
	ways, err := d.kernel.read(mapPodRoutes)
	must(t, err)
	a, b := lab.Hosts["a"].IPv4, lab.Hosts["b"].IPv4
	if len(ways) == 0 {
		t.Fatal("no way leads to a pod")
	}
	link := native.Uint32([]byte(ways[string(putAddr(nil, b))]))
	for from, redirected := range map[netip.Addr]bool{a: false, b: true} {
		packet := frame{src: netip.AddrPortFrom(from, 5000), dst: netip.AddrPortFrom(lab.Hosts["c"].IPv4, 5000), proto: protoUDP}
		if got, _ := d.ingress(t, packet.bytes(), link); got == verdictRedirect != redirected {
			t.Errorf("a packet with the source %s that comes from %s: verdict %d", from, b, got)
		}
	}
}

// ingress hands a frame to the program as if it came by a link.
func (d *Dataplane) ingress(t *testing.T, frame []byte, link uint32) (verdict uint32, out []byte) {
	t.Helper()
	const size, ifindex = 192, 40 // of struct __sk_buff
	context := make([]byte, size)
	native.PutUint32(context[ifindex:], link)
	options := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: context}
	verdict, err := d.kernel.prog["svc_ingress"].Run(&options)
	if errors.Is(err, syscall.EINVAL) {
		return verdictNext, frame // the kernel itself does not take so short a frame
	}
	must(t, err)
	return verdict, options.DataOut
}

// TestFuzzBypass hands the frames of TestFuzzPackets to the program while the bypass is on. What takes it must be
// whole, for a Service, and go to an endpoint with right checksums, from the client's address or the node's.
func TestFuzzBypass(t *testing.T) {
	tg := newTarget(t)
	must(t, tg.plane.Bypass(true))
	ways, err := tg.plane.kernel.read(mapPodRoutes)
	must(t, err)
	r := rand.New(rand.NewPCG(9, 10))
	met := map[string]int{}
	for range 40000 {
		in, link := tg.frame(r), uint32(1)
		was, readable := look(in)
		if way := ways[string(putAddr(nil, was.src.Addr()))]; readable && way != "" {
			link = native.Uint32([]byte(way))
		}
		verdict, out := tg.plane.ingress(t, in, link)
		now, whole := look(out)
		switch {
		case verdict == verdictShot:
			met["dropped"]++
		case verdict == verdictNext:
			met["stack"]++
			if !bytes.Equal(in, out) {
				tg.checkTranslation(t, in, out)
			}
		case verdict != verdictRedirect || !readable:
			t.Fatalf("the verdict is %d for % x", verdict, in)
		case slices.Contains(tg.endpoints, was.src):
			met["answers"]++ // to a port that a client of this test was given: rarely
			if !whole || !slices.Contains(tg.services, now.src) || !tg.opened[now.dst.Addr()] || was.sums && !now.sums {
				t.Fatalf("the answer %s > %s became %s > %s:\n% x\n% x", was.src, was.dst, now.src, now.dst, in, out)
			}
		case !slices.Contains(tg.services, was.dst):
			met["refused"]++
			tg.checkRefusal(t, in, out)
		default:
			met["short"]++
			tg.opened[was.src.Addr()] = true
			from := now.src.Addr() == was.src.Addr() || now.src.Addr() == tg.plane.source(was.src.Addr().Is4())
			if !whole || !was.whole || !slices.Contains(tg.endpoints, now.dst) || !from || was.sums && !now.sums {
				t.Fatalf("%s > %s became %s > %s:\n% x\n% x", was.src, was.dst, now.src, now.dst, in, out)
			}
		}
	}
	for _, what := range []string{"dropped", "stack", "refused", "short"} {
		if met[what] < 100 {
			t.Errorf("%s: %d times only: %v", what, met[what], met)
		}
	}
}
