package server

import (
	"svcplane/proxy"
	"svcplane/proxy/switchover"
	"svcplane/server/admin"
)

// The methods of a running server, which commands call: for each its path, what is asked, and what is answered.
var (
	GetStatus = admin.Method[admin.None, []admin.Status]{Verb: "GET", Path: "/status"}
	GetNames  = admin.Method[NamesRequest, []string]{Verb: "GET", Path: "/names"}

	GetTable    = admin.Method[TableRequest, proxy.Table]{Verb: "GET", Path: "/proxy/table"}
	GetDiff     = admin.Method[admin.None, []string]{Verb: "GET", Path: "/proxy/diff"}
	Repair      = admin.Method[admin.None, []string]{Verb: "POST", Path: "/proxy/diff"} // the answer is what differed
	GetCounters = admin.Method[admin.None, []proxy.Tally]{Verb: "GET", Path: "/proxy/counters"}
	SetCounting = admin.Method[CountingRequest, []proxy.Tally]{Verb: "POST", Path: "/proxy/counters"}
	GetSwitch   = admin.Method[admin.None, switchover.Status]{Verb: "GET", Path: "/proxy/switch"}
	SwitchTo    = admin.Method[SwitchRequest, switchover.Status]{Verb: "POST", Path: "/proxy/switch"}
	ExplainDial = admin.Method[ExplainRequest, []admin.Explanation]{Verb: "GET", Path: "/proxy/explain"} // one for each address
	ExplainName = admin.Method[ExplainRequest, []admin.Explanation]{Verb: "GET", Path: "/dns/query"}     // one for each name that is tried
	ExplainURL  = admin.Method[ExplainRequest, admin.Explanation]{Verb: "GET", Path: "/ingress/explain"}
	GetRoutes   = admin.Method[RoutesRequest, []admin.Route]{Verb: "GET", Path: "/ingress/routes"}
)

// NamesRequest asks for names that there are.
type NamesRequest struct {
	Kind      string `json:"kind"`                // one of admin.NamesOf*
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
