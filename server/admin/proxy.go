package admin

import "net/netip"

// Table is what Services answer on.
type Table struct {
	Frontends []Frontend `json:"frontends,omitempty"`
	// Faults are things found in a kernel that no Frontend explains, or that are missing around them, one sentence each.
	Faults []string `json:"faults,omitempty"`
}

// Frontend is one address, port and protocol that clients connect to, with the whole decision about it.
type Frontend struct {
	Address      netip.AddrPort   `json:"address"`
	Protocol     string           `json:"protocol"` // TCP, UDP, SCTP
	Clients      string           `json:"clients"`  // cluster, outside, everybody
	Service      string           `json:"service"`  // namespace/name
	PortName     string           `json:"portName,omitempty"`
	Action       string           `json:"action"`     // balance, reject, drop
	Masquerade   string           `json:"masquerade"` // whose connections get this node's address
	Affinity     int              `json:"affinitySeconds,omitempty"`
	SourceRanges []netip.Prefix   `json:"sourceRanges,omitempty"` // none: every client may connect
	Endpoints    []netip.AddrPort `json:"endpoints,omitempty"`
}

// Tally is what was counted of one endpoint. What is zero may be unknown: nothing is listed that had no traffic.
type Tally struct {
	Service  string         `json:"service"` // namespace/name:port
	Protocol string         `json:"protocol"`
	Subject  string         `json:"subject"`           // one of Counted*
	Endpoint netip.AddrPort `json:"endpoint,omitzero"` // of CountedServing only
	Open     uint64         `json:"open"`              // connections that are open now
	Total    uint64         `json:"total"`             // connections since the data plane was loaded
	Sent     Volume         `json:"sent"`              // towards the endpoint
	Received Volume         `json:"received"`          // from it
}

// What a Tally is of.
const (
	CountedServing = "serving" // one endpoint
	CountedGone    = "gone"    // all endpoints that the port of the Service had once
	CountedRefused = "refused" // connections that got no endpoint
)

// Volume is packets, and bytes with their IP headers.
type Volume struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Switchover is how far the exchange of the data plane is.
type Switchover struct {
	Serving string `json:"serving"`
	Over    bool   `json:"over"` // no other data plane comes or goes
	Problem string `json:"problem,omitempty"`
	Line    string `json:"line"` // all of it for people
}
