package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"svcplane/catalog"
)

// Address is what a client dials: an address, a port and a protocol.
type Address struct {
	netip.AddrPort
	Protocol corev1.Protocol
}

// String is "10.96.0.5:80/TCP".
func (a Address) String() string { return a.AddrPort.String() + "/" + string(a.Protocol) }

// Compare orders by address, port and protocol.
func (a Address) Compare(b Address) int {
	return cmp.Or(a.AddrPort.Compare(b.AddrPort), cmp.Compare(a.Protocol, b.Protocol))
}

// ID tells Frontends apart: two of one Address differ in Scope.
type ID struct {
	Address
	Scope Scope
}

// Compare orders by Address, then Scope.
func (i ID) Compare(j ID) int {
	return cmp.Or(i.Address.Compare(j.Address), cmp.Compare(i.Scope, j.Scope))
}

// Scope says for which clients a Frontend is. It is a set of bits.
type Scope uint8

const (
	// Internal clients are the pods and the node itself.
	Internal Scope = 1 << iota
	// External clients are all others.
	External
	// Everywhere is all clients.
	Everywhere = Internal | External
)

// Verdict is what happens to a new connection.
type Verdict uint8

const (
	// Balance sends it to one of the endpoints.
	Balance Verdict = iota
	// Reject refuses it at once: the client sees "connection refused".
	Reject
	// Drop discards it without an answer.
	Drop
)

// Masquerade says which clients' addresses are replaced by the node's own, so that the reply passes here.
// A connection that ends where it began is masqueraded always.
type Masquerade uint8

const (
	// MasqueradeHairpin is only a connection from an endpoint to itself.
	MasqueradeHairpin Masquerade = iota
	// MasqueradeOutsidePods is also every client that is not a pod.
	MasqueradeOutsidePods
	// MasqueradeEverybody is every client.
	MasqueradeEverybody
)

// Endpoint is where a Frontend sends connections.
type Endpoint struct {
	netip.AddrPort
}

// Frontend is one address that clients dial, with every decision already taken.
type Frontend struct {
	ID
	Service  catalog.Key
	PortName string
	Verdict  Verdict
	// Masquerade and Affinity count with Balance only, and are zero otherwise.
	Masquerade Masquerade
	Affinity   time.Duration // how long a client stays with its endpoint after its last connection; whole seconds, 0: not at all
	// SourceRanges, when not empty, are the clients that Verdict is for; all others are dropped. Sorted,
	// of the family of the address, never a whole family; empty with Drop.
	SourceRanges []netip.Prefix
	// Endpoints are sorted, each once; empty unless Verdict is Balance.
	Endpoints []Endpoint
}

// Equal says whether both ask the same of a kernel.
func (f Frontend) Equal(g Frontend) bool {
	return f.ID == g.ID && f.Service == g.Service && f.PortName == g.PortName && f.Verdict == g.Verdict &&
		f.Masquerade == g.Masquerade && f.Affinity == g.Affinity &&
		slices.Equal(f.SourceRanges, g.SourceRanges) && slices.Equal(f.Endpoints, g.Endpoints)
}

// Origin is the Service and the name of its port: "default/toad:http", or "default/toad" for a port
// without a name.
func (f Frontend) Origin() string { return JoinOrigin(f.Service, f.PortName) }

// JoinOrigin is the text of a Service and port name; SplitOrigin is its inverse.
func JoinOrigin(key catalog.Key, portName string) string {
	if portName == "" {
		return key.String()
	}
	return key.String() + ":" + portName
}

// SplitOrigin reads back what JoinOrigin wrote; ok is false for another text.
func SplitOrigin(text string) (key catalog.Key, portName string, ok bool) {
	service, portName, _ := strings.Cut(text, ":")
	key.Namespace, key.Name, ok = strings.Cut(service, "/")
	return key, portName, ok && key.Namespace != "" && key.Name != ""
}

var (
	scopeNames      = map[Scope]string{Internal: "cluster", External: "outside", Everywhere: "everybody"}
	verdictNames    = map[Verdict]string{Balance: "balance", Reject: "reject", Drop: "drop"}
	masqueradeNames = map[Masquerade]string{MasqueradeHairpin: "hairpin", MasqueradeOutsidePods: "outside-pods", MasqueradeEverybody: "everybody"}
)

func (s Scope) String() string      { return scopeNames[s] }
func (v Verdict) String() string    { return verdictNames[v] }
func (m Masquerade) String() string { return masqueradeNames[m] }

// MarshalText is the name: cluster, outside, everybody.
func (s Scope) MarshalText() ([]byte, error) { return nameOf(scopeNames, s) }

// MarshalText is the name: balance, reject, drop.
func (v Verdict) MarshalText() ([]byte, error) { return nameOf(verdictNames, v) }

// MarshalText is the name: hairpin, outside-pods, everybody.
func (m Masquerade) MarshalText() ([]byte, error) { return nameOf(masqueradeNames, m) }

// UnmarshalText reads the name.
func (s *Scope) UnmarshalText(text []byte) error { return parseName(scopeNames, s, text) }

// UnmarshalText reads the name.
func (v *Verdict) UnmarshalText(text []byte) error { return parseName(verdictNames, v, text) }

// UnmarshalText reads the name.
func (m *Masquerade) UnmarshalText(text []byte) error { return parseName(masqueradeNames, m, text) }

func nameOf[T comparable](names map[T]string, value T) ([]byte, error) {
	name, ok := names[value]
	if !ok {
		return nil, fmt.Errorf("%T has no value %v", value, value)
	}
	return []byte(name), nil
}

func parseName[T comparable](names map[T]string, value *T, text []byte) error {
	for v, name := range names {
		if name == string(text) {
			*value = v
			return nil
		}
	}
	return fmt.Errorf("%T has no value %q", *value, text)
}
