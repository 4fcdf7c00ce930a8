package proxy

import (
	"context"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// Subject is what a Tally is of.
type Subject uint8

const (
	// Serving is one endpoint.
	Serving Subject = iota
	// Gone is all endpoints that the port of the Service had once, so that its sums never get less.
	Gone
	// Refused is connections that got no endpoint.
	Refused
)

var subjectNames = map[Subject]string{Serving: "serving", Gone: "gone", Refused: "refused"}

func (s Subject) String() string { return subjectNames[s] }

// MarshalText is the name: serving, gone, refused.
func (s Subject) MarshalText() ([]byte, error) { return nameOf(subjectNames, s) }

// UnmarshalText reads the name.
func (s *Subject) UnmarshalText(text []byte) error { return parseName(subjectNames, s, text) }

// Counted says what a Tally is of.
type Counted struct {
	Origin   string          `json:"service"` // Frontend.Origin
	Protocol corev1.Protocol `json:"protocol"`
	Subject  Subject         `json:"subject"`
	Endpoint netip.AddrPort  `json:"endpoint,omitzero"` // of Serving only
}

// Tally is what was counted. What is zero may be unknown: nothing is listed that had no traffic.
type Tally struct {
	Counted
	Open  uint64 `json:"open"`  // connections that are open now
	Total uint64 `json:"total"` // connections since the data plane was loaded
	// Sent is towards the endpoint, Received what came from it; both are unknown of what is connected at the socket.
	Sent     Volume `json:"sent"`
	Received Volume `json:"received"`
}

// Volume is packets, and octets with their IP headers.
type Volume struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func (v Volume) plus(w Volume) Volume {
	return Volume{Packets: v.Packets + w.Packets, Bytes: v.Bytes + w.Bytes}
}

// Tallier is a Dataplane that counts by itself.
type Tallier interface {
	// Tallies are those of the Services of the Table.
	Tallies(ctx context.Context) ([]Tally, error)
}
