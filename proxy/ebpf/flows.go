package ebpf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"svcplane/proxy"
)

const (
	stageIn, stageOut = 0, 1
	linkOffset        = 22
	flowForward       = 1
	flowForeign       = 2
)

// The bits of enum flow_state.
const (
	stateSeen = 1 << iota
	stateFin
	stateFinOther
	stateReset
	stateStream
)

// What flow.h says of when a connection is over.
const (
	udpIdle     = 120 * time.Second
	udpOnceIdle = 30 * time.Second
	synIdle     = 60 * time.Second
	tcpIdle     = 24 * time.Hour
	closingIdle = 60 * time.Second
)

// uptime is the clock of the kernel's entries.
func uptime() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // every kernel has this clock
	return time.Duration(now.Nano())
}

// ended says whether a connection is over, of which value is the entry of the first direction and back, if there
// is one, that of the other.
func ended(value, back []byte, protocol byte) bool {
	state, last := value[20], time.Duration(native.Uint64(value[24:]))
	if len(back) > 0 {
		state |= back[20]
		last = max(last, time.Duration(native.Uint64(back[24:])))
	}
	idle := uptime() - last
	switch {
	case protocol != unix.IPPROTO_TCP && state&stateStream != 0:
		return idle > udpIdle
	case protocol != unix.IPPROTO_TCP:
		return idle > udpOnceIdle
	case state&stateReset != 0, len(back) > 0 && back[20]&(stateFin|stateFinOther) == stateFin|stateFinOther:
		return true
	case state&(stateFin|stateFinOther) != 0:
		return idle > closingIdle
	case state&stateSeen == 0:
		return idle > synIdle
	}
	return idle > tcpIdle
}

// foreign is the entry of a connection that netfilter translates, and has for a while.
func foreign() string {
	b := append(make([]byte, 20), stateSeen|stateStream, flowForeign, 0, 0)
	return string(native.AppendUint64(native.AppendUint64(b, uint64(uptime())), 0))
}

func isForeign(value []byte) bool { return value[21]&flowForeign != 0 }

// end is an address and port as flowKey takes them.
func end(a netip.AddrPort) string { return string(putAddrPort(nil, a)) }

// flowKey is struct flow_key.
func flowKey(src, dst string, protocol, stage byte) string {
	return src[:16] + dst[:16] + src[16:18] + dst[16:18] + string([]byte{protocol, stage, 0, 0})
}

// tracked is an entry of a connection's first direction: the client dialled, and the endpoint answers it at
// clientSeen, which are bytes as putAddrPort makes them.
type tracked struct {
	key              string
	client, endpoint string
	seenPort         string
	protocol         byte
	flow             proxy.Flow
}

// trackedOf reads an entry of map flows; ok is false for those of the other directions.
func trackedOf(key, value string) (t tracked, ok bool) {
	if value[21]&flowForward == 0 {
		return t, false
	}
	t = tracked{key: key, client: key[:16] + key[32:34], endpoint: value[:18], seenPort: value[18:20], protocol: key[36]}
	dialled := []byte(key[16:32] + key[34:36])
	t.flow = proxy.Flow{
		Dialled:   proxy.Address{AddrPort: getAddrPort(dialled), Protocol: protocolOf(t.protocol)},
		Answering: getAddrPort([]byte(t.endpoint)), Opening: value[20]&stateSeen == 0,
	}
	return t, true
}

// seen is the client as netfilter sees it.
func (t tracked) seen() string { return t.client[:16] + t.seenPort }

// out is the key of what masquerades the client, and back that of what comes back to it.
func (t tracked) out() string  { return flowKey(t.seen(), t.endpoint, t.protocol, stageOut) }
func (t tracked) back() string { return flowKey(t.endpoint, t.seen(), t.protocol, stageOut) }

// keys are the entries of the connection. flows tells the address that a masqueraded client has.
func (t tracked) keys(flows map[string]string) []string {
	keys := []string{t.key, t.out(), t.back()}
	if masqueraded, ok := flows[t.out()]; ok {
		keys = append(keys, flowKey(t.endpoint, masqueraded[:18], t.protocol, stageIn))
	}
	return keys
}

// EndFlows forgets the connections for which stale is true. A program with a socket that is connected to such an
// endpoint gets ECONNABORTED: the address is the socket's own, and nobody else can change it.
func (d *Dataplane) EndFlows(_ context.Context, stale func(proxy.Flow) bool) (uint, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel == nil {
		return 0, nil
	}
	all, err := d.kernel.read(mapFlows)
	if err != nil {
		return 0, err
	}
	var ended uint
	for key, value := range all {
		t, ok := trackedOf(key, value)
		if !ok || !stale(t.flow) {
			continue
		}
		ended++
		for _, k := range t.keys(all) {
			if err := d.kernel.remove(entry{table: mapFlows, key: k}); err != nil {
				return ended, err
			}
		}
	}
	sockets, err := d.endSockets(stale)
	if ended+sockets > 0 {
		err = errors.Join(err, d.recountConns()) // the endpoints may come back
	}
	return ended + sockets, err
}

// endSockets destroys the sockets that are connected to endpoints of the past. It forgets them afterwards, so that
// what fails is tried again.
func (d *Dataplane) endSockets(stale func(proxy.Flow) bool) (uint, error) {
	peers, err := d.kernel.read(mapSocketRevnat)
	if err != nil {
		return 0, err
	}
	past := map[byte]map[uint64]bool{}
	var keys []string
	for key, value := range peers {
		protocol := value[18]
		flow := proxy.Flow{
			Dialled:   proxy.Address{AddrPort: getAddrPort([]byte(value)), Protocol: protocolOf(protocol)},
			Answering: getAddrPort([]byte(key)[8:]), Socket: true,
		}
		if !stale(flow) {
			continue
		}
		if past[protocol] == nil {
			past[protocol] = map[uint64]bool{}
		}
		past[protocol][native.Uint64([]byte(key))] = true
		keys = append(keys, key)
	}
	var ended uint
	for protocol, cookies := range past {
		err := d.eachSocket(protocol, func(s *netlink.Socket) error {
			if !cookies[cookieOfSocket(s)] || s.ID.DestinationPort == 0 {
				return nil
			}
			ended++
			if err := destroySocket(protocol, s); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("ending a socket (needs CONFIG_INET_DIAG_DESTROY): %w", err)
			}
			return nil
		})
		if err != nil {
			return ended, err
		}
	}
	for _, key := range keys {
		if err := d.kernel.remove(entry{table: mapSocketRevnat, key: key}); err != nil {
			return ended, err
		}
	}
	return ended, nil
}

// sockDestroy is SOCK_DESTROY of linux/sock_diag.h.
const sockDestroy = 21

// destroyRequest is struct inet_diag_req_v2 of linux/inet_diag.h.
type destroyRequest []byte

func (r destroyRequest) Len() int          { return len(r) }
func (r destroyRequest) Serialize() []byte { return r }

func destroySocket(protocol byte, s *netlink.Socket) error {
	b := []byte{s.Family, protocol, 0, 0, 0xff, 0xff, 0xff, 0xff}
	b = append(b, byte(s.ID.SourcePort>>8), byte(s.ID.SourcePort), byte(s.ID.DestinationPort>>8), byte(s.ID.DestinationPort))
	for _, ip := range []([]byte){s.ID.Source, s.ID.Destination} {
		var addr [16]byte
		if v4 := s.ID.Source.To4(); s.Family == unix.AF_INET && v4 != nil {
			ip = ip[len(ip)-4:]
		}
		copy(addr[:], ip)
		b = append(b, addr[:]...)
	}
	b = native.AppendUint32(b, s.ID.Interface)
	b = native.AppendUint32(native.AppendUint32(b, s.ID.Cookie[0]), s.ID.Cookie[1])
	request := nl.NewNetlinkRequest(sockDestroy, unix.NLM_F_ACK)
	request.AddData(destroyRequest(b))
	_, err := request.Execute(unix.NETLINK_SOCK_DIAG, 0)
	return err
}
