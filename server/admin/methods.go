package admin

// The methods of a running server, which commands call: for each its path, what is asked, and what is answered.
var (
	GetStatus = Method[None, []Status]{Verb: "GET", Path: "/status"}
	GetNames  = Method[NamesRequest, []string]{Verb: "GET", Path: "/names"}

	GetTable    = Method[TableRequest, Table]{Verb: "GET", Path: "/proxy/table"}
	GetDiff     = Method[None, []string]{Verb: "GET", Path: "/proxy/diff"}
	Repair      = Method[None, []string]{Verb: "POST", Path: "/proxy/diff"} // the answer is what differed
	GetCounters = Method[None, []Tally]{Verb: "GET", Path: "/proxy/counters"}
	SetCounting = Method[CountingRequest, []Tally]{Verb: "POST", Path: "/proxy/counters"}
	GetSwitch   = Method[None, Switchover]{Verb: "GET", Path: "/proxy/switch"}
	SwitchTo    = Method[SwitchRequest, Switchover]{Verb: "POST", Path: "/proxy/switch"}
	ExplainDial = Method[ExplainRequest, []Explanation]{Verb: "GET", Path: "/proxy/explain"} // one for each address
	ExplainName = Method[ExplainRequest, []Explanation]{Verb: "GET", Path: "/dns/query"}     // one for each name that is tried
	ExplainURL  = Method[ExplainRequest, Explanation]{Verb: "GET", Path: "/ingress/explain"}
	GetRoutes   = Method[RoutesRequest, []Route]{Verb: "GET", Path: "/ingress/routes"}
)

// NamesRequest asks for names that there are.
type NamesRequest struct {
	Kind      string `json:"kind"`                // one of NamesOf*
	Namespace string `json:"namespace,omitempty"` // of the kinds that are of one
}

// TableRequest asks for frontends.
type TableRequest struct {
	Service string `json:"service,omitempty"` // NAMESPACE/NAME; empty: all
	Kernel  bool   `json:"kernel,string"`     // read back from the kernel, instead of what it was given
}

// CountingRequest begins or ends the counting of packets and bytes.
type CountingRequest struct {
	On bool `json:"on,string"`
}

// SwitchRequest puts a data plane in place of the one that serves.
type SwitchRequest struct {
	Mode  string `json:"mode"`
	Drain string `json:"drain,omitempty"` // how long connections of the other may go on; empty: as the server's flag says
}

// ExplainRequest asks what becomes of a connection, a name or a URL.
type ExplainRequest struct {
	To        string `json:"to"`
	From      string `json:"from,omitempty"`      // pod/NAME, or of a connection an address; empty: the node
	Namespace string `json:"namespace,omitempty"` // of the Service and of that pod
	Type      string `json:"type,omitempty"`      // of DNS records
}

// RoutesRequest asks for the routes of a host; empty: of all.
type RoutesRequest struct {
	Host string `json:"host,omitempty"`
}
