package proxy

import (
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

// Counted says what a Tally is of.
type Counted struct {
	Origin   string // Frontend.Origin
	Protocol corev1.Protocol
	Subject  Subject
	Endpoint netip.AddrPort // of Serving only
}

// Tally is what was counted. What is zero may be unknown: nothing is listed that had no traffic.
type Tally struct {
	Counted
	Open  uint64 // connections that are open now
	Total uint64 // connections since the data plane was loaded
	// Sent is towards the endpoint, Received what came from it; both are unknown of what is connected at the socket.
	Sent     Volume
	Received Volume
}

// Volume is packets, and octets with their IP headers.
type Volume struct {
	Packets uint64
	Bytes   uint64
}

func (v Volume) plus(w Volume) Volume {
	return Volume{Packets: v.Packets + w.Packets, Bytes: v.Bytes + w.Bytes}
}
