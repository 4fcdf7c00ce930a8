package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"svcplane/listeners"
)

// TableName is our nftables table, in the families ip and, on a dual-stack node, ip6.
const TableName = "svcplane-pods"

// PortMap leads a port of the node to a pod (a container's hostPort).
type PortMap struct {
	Protocol string     // "TCP" or "UDP"
	HostIP   netip.Addr // the node's address it holds for; zero for all
	HostPort uint16
	Pod      netip.Addr
	PodPort  uint16
	Link     string // the host end of the pod's veth
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// onLoopback says whether programs of the node reach the port at 127.0.0.1 too. The kernel has nothing of the kind for ::1.
func (p PortMap) onLoopback() bool {
	return p.Pod.Is4() && (!p.HostIP.IsValid() || p.HostIP.IsLoopback())
}

// Rules are what pods need of the host's netfilter in one address family, besides Services.
type Rules struct {
	Pods  netip.Prefix   // addresses of pods; its family is that of the rules
	Local []netip.Prefix // destinations besides Pods that see a pod's own address; those of the other family do not count
	Ports []PortMap      // those of pods of the other family do not count
	Own   listeners.Set  // svcplane's, whose ports lead to no pod
}

// side is an address of a packet.
type side int

const (
	source side = iota
	destination
)

// family is where things are called and lie in packets of IPv4 (RFC 791) or IPv6 (RFC 8200).
type family struct {
	table  nftables.TableFamily
	number uint32
	offset [2]uint32 // of the addresses in the header, by side
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return family{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, [2]uint32{12, 16}}
	}
	return family{nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, [2]uint32{8, 24}}
}

// Apply replaces our table as a whole, in one transaction: pods talk to the outside with the node's
// address, because outside nobody has a route to a pod, and host ports lead to their pods.
func (r Rules) Apply() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("apply the rules of pods: %w", err)
	}
	table := &nftables.Table{Name: TableName, Family: familyOf(r.Pods.Addr()).table}
	conn.AddTable(table) // so that deleting it can't fail
	conn.DelTable(table)
	conn.AddTable(table)
	post := ruleset{conn, table}.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	post(r.masquerade())
	r.Ports = slices.DeleteFunc(slices.Clone(r.Ports), func(p PortMap) bool { return !r.speaks(p.Pod) })
	if len(r.Ports) > 0 {
		r.addPorts(ruleset{conn, table}, post)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("apply nftables table %s for pods %s: %w (does the kernel have nf_tables, nft_nat and nft_masq?)", TableName, r.Pods, err)
	}
	return r.routeLoopback()
}

func (r Rules) speaks(a netip.Addr) bool { return a.Is4() == r.Pods.Addr().Is4() }

// ruleset is a table to be filled.
type ruleset struct {
	conn  *nftables.Conn
	table *nftables.Table
}

// chain adds a base chain and gives what adds a rule to it.
func (s ruleset) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) func([]expr.Any) {
	chain := s.conn.AddChain(&nftables.Chain{Name: name, Table: s.table, Type: kind, Hooknum: hook, Priority: priority})
	return func(exprs []expr.Any) {
		s.conn.AddRule(&nftables.Rule{Table: s.table, Chain: chain, Exprs: exprs})
	}
}

// addPorts adds what leads host ports to their pods.
func (r Rules) addPorts(set ruleset, post func([]expr.Any)) {
	guard := set.chain("guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	pre := set.chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	output := set.chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	for _, own := range r.Own {
		if rule := r.spare(own); rule != nil {
			pre(rule)
			output(rule)
		}
	}
	for _, p := range r.Ports {
		pre(p.translate(false))
		output(p.translate(p.onLoopback()))
		post(p.returning(netip.PrefixFrom(p.Pod, p.Pod.BitLen())))
		if p.onLoopback() {
			post(p.returning(loopback))
			guard(p.stray(destination))
			guard(p.stray(source))
		}
	}
}

// routeLoopback lets the kernel route between the addresses of loopback and pods that have host ports, once the
// rules are in force that let nothing but translated packets use that.
func (r Rules) routeLoopback() error {
	var errs []error
	for _, p := range r.Ports {
		if p.onLoopback() {
			// A pod that is still being made has no link yet; it comes here again.
			errs = append(errs, optionalSysctl("/proc/sys/net/ipv4/conf/"+p.Link+"/route_localnet", "1"))
		}
	}
	return errors.Join(errs...)
}

// RemoveRules deletes the tables of both families; that there is none is no error.
func RemoveRules() error {
	var errs []error
	for _, f := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		conn, err := nftables.New()
		if err == nil {
			conn.DelTable(&nftables.Table{Name: TableName, Family: f})
			err = conn.Flush()
		}
		// a kernel without IPv6 has no such family
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
			errs = append(errs, fmt.Errorf("remove nftables table %s: %w", TableName, err))
		}
	}
	return errors.Join(errs...)
}

func (r Rules) masquerade() []expr.Any {
	rule := matchPrefix(source, r.Pods, expr.CmpOpEq)
	for _, prefix := range append([]netip.Prefix{r.Pods}, r.Local...) {
		if r.speaks(prefix.Addr()) {
			rule = append(rule, matchPrefix(destination, prefix, expr.CmpOpNeq)...)
		}
	}
	return append(rule, &expr.Masq{})
}

// translate sends what comes to the host port to the pod. Only packets of this node's own programs have an
// address of loopback.
func (p PortMap) translate(own bool) []expr.Any {
	rule := toLocal()
	if !own && p.Pod.Is4() {
		rule = append(rule, matchPrefix(destination, loopback, expr.CmpOpNeq)...)
	}
	if p.HostIP.IsValid() {
		rule = append(rule, matchPrefix(destination, netip.PrefixFrom(p.HostIP, p.HostIP.BitLen()), expr.CmpOpEq)...)
	}
	return append(append(rule, toPort(p.Protocol, p.HostPort)...),
		&expr.Immediate{Register: 1, Data: p.Pod.AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, p.PodPort)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: familyOf(p.Pod).number, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	)
}

// spare lets what comes to a port of svcplane's own pass all translations, whatever pods ask for; nil for a listener of
// the other family.
func (r Rules) spare(l listeners.Listener) []expr.Any {
	at := l.At.Addr().Unmap()
	rule := toLocal()
	switch {
	case at.IsUnspecified() && (at.Is6() || r.speaks(at)):
	case at.IsUnspecified() || !r.speaks(at):
		return nil
	default:
		rule = append(rule, matchPrefix(destination, netip.PrefixFrom(at, at.BitLen()), expr.CmpOpEq)...)
	}
	return append(append(rule, toPort(string(l.Protocol), l.At.Port())...), &expr.Verdict{Kind: expr.VerdictAccept})
}

// toLocal matches what is for an address of the machine.
func toLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}
}

func toPort(protocol string, port uint16) []expr.Any {
	number := byte(unix.IPPROTO_TCP)
	if protocol == "UDP" {
		number = unix.IPPROTO_UDP
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
	}
}

// returning gives packets from these addresses to the pod the node's address, so that answers come back through
// the node: those of the pod itself, which reaches itself by its host port, and those of loopback.
func (p PortMap) returning(from netip.Prefix) []expr.Any {
	rule := matchPrefix(source, from, expr.CmpOpEq)
	rule = append(rule, matchPrefix(destination, netip.PrefixFrom(p.Pod, p.Pod.BitLen()), expr.CmpOpEq)...)
	return append(rule, &expr.Masq{})
}

// stray drops what the pod itself sends to or from an address of loopback (CVE-2020-8558): on the wire there are
// none, since those of host ports are translated.
func (p PortMap) stray(at side) []expr.Any {
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(p.Link), 0)},
	}
	return append(append(rule, matchPrefix(at, loopback, expr.CmpOpEq)...), &expr.Verdict{Kind: expr.VerdictDrop})
}

// matchPrefix compares an address of a packet with a prefix.
func matchPrefix(at side, prefix netip.Prefix, op expr.CmpOp) []expr.Any {
	addr := prefix.Masked().Addr().AsSlice()
	mask := make([]byte, len(addr))
	for bit := range prefix.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	width := uint32(len(addr))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: familyOf(prefix.Addr()).offset[at], Len: width},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: width, Mask: mask, Xor: make([]byte, width)},
		&expr.Cmp{Op: op, Register: 1, Data: addr},
	}
}
