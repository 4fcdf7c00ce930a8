package ebpf

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// What a program says of a packet (linux/pkt_cls.h).
const (
	verdictNext     = 0xffffffff
	verdictShot     = 2
	verdictRedirect = 7
)

// target is what the fuzz test aims at: a plane with one Service in each family.
type target struct {
	plane     *Dataplane
	services  []netip.AddrPort
	refused   []netip.AddrPort
	endpoints []netip.AddrPort
	clients   []netip.Addr
	opened    map[netip.Addr]bool // clients, with an address that was broken at times, whose connection was translated
}

func newTarget(t testing.TB) *target {
	parse := func(texts ...string) (all []netip.AddrPort) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddrPort(text))
		}
		return all
	}
	tg := &target{
		plane:     open(t, proxytest.NewLab(t)),
		opened:    map[netip.Addr]bool{},
		services:  parse("10.96.0.5:80", "[fd00:96::5]:80"),
		refused:   parse("10.96.0.6:80", "[fd00:96::6]:80"),
		endpoints: parse("10.244.0.11:8080", "10.244.0.12:8080", "[fd00:244::11]:8080", "[fd00:244::12]:8080"),
		clients:   []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("10.244.0.13"), netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("fd00:244::13")},
	}
	must(t, tg.plane.Resync(t.Context(), tg.table()))
	return tg
}

// table is the Services in both protocols, and as many that are refused.
func (tg *target) table() proxy.Table {
	var all []proxy.Frontend
	for i := range tg.services {
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			f := proxy.Frontend{Service: catalog.Key{Namespace: "default", Name: "web"}, Masquerade: proxy.MasqueradeOutsidePods}
			f.Address, f.Scope = proxy.Address{AddrPort: tg.services[i], Protocol: protocol}, proxy.Everywhere
			f.Endpoints = []proxy.Endpoint{{AddrPort: tg.endpoints[2*i]}, {AddrPort: tg.endpoints[2*i+1]}}
			all = append(all, f)
			f.AddrPort, f.Verdict, f.Masquerade, f.Endpoints = tg.refused[i], proxy.Reject, 0, nil
			all = append(all, f)
		}
	}
	return proxy.NewTable(all...)
}

// run hands a frame to a program.
func (tg *target) run(t testing.TB, name string, in []byte) (uint32, []byte) {
	t.Helper()
	out := make([]byte, len(in)+256)
	options := ebpf.RunOptions{Data: in, DataOut: out}
	verdict, err := tg.plane.kernel.prog[name].Run(&options)
	if errors.Is(err, syscall.EINVAL) {
		return verdictNext, in // the kernel itself does not take so short a frame
	}
	must(t, err)
	return verdict, options.DataOut
}

// frame makes one of many kinds.
func (tg *target) frame(r *rand.Rand) []byte {
	pick := func(all []netip.AddrPort, v4 bool) netip.AddrPort {
		for {
			if a := all[r.IntN(len(all))]; a.Addr().Is4() == v4 {
				return a
			}
		}
	}
	v4 := r.IntN(2) == 0
	client := tg.clients[r.IntN(2)]
	if !v4 {
		client = tg.clients[2+r.IntN(2)]
	}
	f := frame{src: netip.AddrPortFrom(client, uint16(1+r.IntN(65535))), dst: pick(tg.services, v4), proto: []byte{protoTCP, protoUDP}[r.IntN(2)], flags: 2}
	switch r.IntN(6) {
	case 0:
		f.dst = pick(tg.refused, v4)
	case 1: // a reply nobody has asked for
		node := tg.plane.source(v4)
		f.src, f.dst, f.flags = pick(tg.endpoints, v4), netip.AddrPortFrom(node, uint16(30000+r.IntN(30000))), 18
	}
	if r.IntN(4) == 0 {
		f.flags = byte(r.IntN(64))
	}
	if r.IntN(4) == 0 {
		f.options = r.IntN(4)
	}
	if r.IntN(6) == 0 {
		f.more, f.offset = r.IntN(2) == 0, uint16(r.IntN(3))
	}
	f.payload = make([]byte, r.IntN(80))
	b := f.bytes()
	if r.IntN(5) == 0 { // an error about it
		proto, head := byte(protoICMP), []byte{3, byte(r.IntN(5)), 0, 0, 0, 0, 5, 0}
		if !v4 {
			proto, head[0] = protoICM6, 2
		}
		f.src, f.dst = f.dst, f.src
		b = f.around(proto, append(head, b[etherLen:]...))
	}
	switch r.IntN(4) {
	case 0:
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		}
	case 1:
		b = b[:r.IntN(len(b)+1)]
	}
	return b
}

// TestFuzzPackets hands broken, cut, fragmented and forged packets to the program at the door. What leaves it
// otherwise than it came must have been the beginning of a connection to the Service, and go to an endpoint.
func TestFuzzPackets(t *testing.T) {
	tg := newTarget(t)
	r := rand.New(rand.NewPCG(7, 8))
	met := map[string]int{}
	for range 60000 {
		in := tg.frame(r)
		verdict, out := tg.run(t, "svc_ingress", in)
		was, readable := look(in)
		switch {
		case verdict == verdictShot:
			met["dropped"]++
		case verdict == verdictRedirect:
			met["refused"]++
			tg.checkRefusal(t, in, out)
		case verdict != verdictNext:
			t.Fatalf("the verdict is %d for % x", verdict, in)
		case bytes.Equal(in, out):
			met["passed"]++
			if readable && was.whole && was.opens() && slices.Contains(tg.services, was.dst) {
				t.Fatalf("a connection to %s was not translated: % x", was.dst, in)
			}
		default:
			met["translated"]++
			tg.checkTranslation(t, in, out)
		}
	}
	for _, what := range []string{"dropped", "refused", "passed", "translated"} {
		if met[what] < 100 {
			t.Errorf("%s: %d times only: %v", what, met[what], met)
		}
	}
}

func (tg *target) checkTranslation(t *testing.T, in, out []byte) {
	t.Helper()
	was, ok := look(in)
	if !ok {
		if len(in) > etherLen+10 && (in[etherLen+9] == protoICMP || in[etherLen+6] == protoICM6 || in[etherLen+6] == 60) {
			return // an error about a flow of this test: TestErrorsAreTranslated looks into those
		}
		t.Fatalf("nobody can read it, and it was changed:\n% x\n% x", in, out)
	}
	now, ok := look(out)
	if !ok || len(in) != len(out) {
		t.Fatalf("it cannot be read any more:\n% x\n% x", in, out)
	}
	// to a port that a client was given a moment ago
	answer := slices.ContainsFunc(tg.endpoints, func(e netip.AddrPort) bool { return e.Addr() == was.src.Addr() }) && tg.opened[now.dst.Addr()]
	if !was.whole && answer {
		return
	}
	if !was.whole {
		// the ports of a fragment are those of the first one
		isEndpoint := func(e netip.AddrPort) bool { return e.Addr() == now.dst.Addr() }
		if !slices.ContainsFunc(tg.endpoints, isEndpoint) || now.src.Addr() != was.src.Addr() {
			t.Fatalf("a fragment %s > %s became %s > %s", was.src, was.dst, now.src, now.dst)
		}
		return
	}
	if slices.Contains(tg.services, was.dst) {
		if !slices.Contains(tg.endpoints, now.dst) || now.src.Addr() != was.src.Addr() {
			t.Fatalf("%s > %s became %s > %s", was.src, was.dst, now.src, now.dst)
		}
		tg.opened[was.src.Addr()] = true
	} else if !answer {
		t.Fatalf("%s > %s is no service's, and became %s > %s", was.src, was.dst, now.src, now.dst)
	}
	if was.sums && !now.sums {
		t.Fatalf("its checksums were right, and are wrong:\n% x\n% x", in, out)
	}
}

func (tg *target) checkRefusal(t *testing.T, in, out []byte) {
	t.Helper()
	was, ok := look(in)
	if !ok {
		t.Fatalf("nobody can read it, and it was answered:\n% x\n% x", in, out)
	}
	if was.proto == protoTCP {
		now, ok := look(out)
		if !ok || now.src != was.dst || now.dst != was.src || now.flags != 4|16 || !now.sums {
			t.Fatalf("the reset of %s > %s is % x", was.src, was.dst, out)
		}
		return
	}
	header := 40
	if was.dst.Addr().Is4() {
		header = 20
	}
	message := out[etherLen+header:]
	check := sum(message)
	if header == 40 {
		check = sum(pseudoHeader(was.dst.Addr(), was.src.Addr(), protoICM6, len(message)), message)
	}
	if check != 0 || !bytes.Equal(message[8:], in[etherLen:][:header+8]) {
		t.Fatalf("the refusal of %s > %s is % x", was.src, was.dst, out)
	}
}
