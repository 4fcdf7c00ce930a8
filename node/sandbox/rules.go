package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// TableName is our nftables table (family ip).
const TableName = "svcplane-pods"

// PortMap leads a port of the node to a pod (a container's hostPort).
type PortMap struct {
	Protocol string     // "TCP" or "UDP"
	HostIP   netip.Addr // the node's address it holds for; zero for all
	HostPort uint16
	Pod      netip.Addr
	PodPort  uint16
}

// Rules are what pods need of the host's netfilter, besides Services.
type Rules struct {
	Pods  netip.Prefix   // addresses of pods
	Local []netip.Prefix // destinations besides Pods that see a pod's own address
	Ports []PortMap
}

// Offsets in the IPv4 header (RFC 791).
const (
	offsetProtocol    = 9
	offsetSource      = 12
	offsetDestination = 16
)

// Apply replaces our table as a whole, in one transaction: pods talk to the outside with the node's
// address, because outside nobody has a route to a pod, and host ports lead to their pods.
func (r Rules) Apply() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("apply the rules of pods: %w", err)
	}
	table := &nftables.Table{Name: TableName, Family: nftables.TableFamilyIPv4}
	conn.AddTable(table) // so that deleting it can't fail
	conn.DelTable(table)
	conn.AddTable(table)
	chain := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority})
	}
	post := chain("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	add := func(to *nftables.Chain, exprs []expr.Any) {
		conn.AddRule(&nftables.Rule{Table: table, Chain: to, Exprs: exprs})
	}
	add(post, r.masquerade())
	if len(r.Ports) > 0 {
		pre := chain("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
		output := chain("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
		for _, p := range r.Ports {
			add(pre, p.translate())
			add(output, p.translate())
			add(post, p.hairpin())
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("apply nftables table %s for pods %s: %w (does the kernel have nf_tables, nft_nat and nft_masq?)", TableName, r.Pods, err)
	}
	return nil
}

// RemoveRules deletes the table; that there is none is no error.
func RemoveRules() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("remove nftables table %s: %w", TableName, err)
	}
	conn.DelTable(&nftables.Table{Name: TableName, Family: nftables.TableFamilyIPv4})
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove nftables table %s: %w", TableName, err)
	}
	return nil
}

func (r Rules) masquerade() []expr.Any {
	rule := matchPrefix(offsetSource, r.Pods, expr.CmpOpEq)
	for _, prefix := range append([]netip.Prefix{r.Pods}, r.Local...) {
		if prefix.Addr().Is4() {
			rule = append(rule, matchPrefix(offsetDestination, prefix, expr.CmpOpNeq)...)
		}
	}
	return append(rule, &expr.Masq{})
}

// translate sends what comes to the host port to the pod. Addresses of loopback are left out: the kernel
// does not route from them to a pod.
func (p PortMap) translate() []expr.Any {
	rule := []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}
	rule = append(rule, matchPrefix(offsetDestination, netip.MustParsePrefix("127.0.0.0/8"), expr.CmpOpNeq)...)
	if p.HostIP.Is4() {
		rule = append(rule, matchPrefix(offsetDestination, netip.PrefixFrom(p.HostIP, 32), expr.CmpOpEq)...)
	}
	protocol := byte(unix.IPPROTO_TCP)
	if p.Protocol == "UDP" {
		protocol = unix.IPPROTO_UDP
	}
	return append(rule,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offsetProtocol, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p.HostPort)},
		&expr.Immediate{Register: 1, Data: p.Pod.AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, p.PodPort)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	)
}

// hairpin lets a pod reach itself through its host port: answers must come back to the host.
func (p PortMap) hairpin() []expr.Any {
	self := netip.PrefixFrom(p.Pod, 32)
	rule := append(matchPrefix(offsetSource, self, expr.CmpOpEq), matchPrefix(offsetDestination, self, expr.CmpOpEq)...)
	return append(rule, &expr.Masq{})
}

// matchPrefix compares the address at offset of the IPv4 header with a prefix.
func matchPrefix(offset uint32, prefix netip.Prefix, op expr.CmpOp) []expr.Any {
	addr := prefix.Masked().Addr().As4()
	mask := [4]byte{}
	for bit := range prefix.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask[:], Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: addr[:]},
	}
}
