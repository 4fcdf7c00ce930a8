package route

import (
	"net/http"
	"net/netip"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Policy is what an object wants done with the requests of its routes, beyond sending them somewhere. It is
// immutable, depends on no resource, and its zero value changes nothing. The table in docs/ingress.md names the
// annotations that set each field.
type Policy struct {
	HTTPSRedirect bool      // plain requests are answered 308 to https
	Redirect      *Redirect // every request is answered with it
	AppRoot       string    // where a request for exactly "/" is sent; empty: nowhere
	Rewrite       *Rewrite

	ConnectTimeout time.Duration // to an endpoint; 0: dialTimeout
	ReadTimeout    time.Duration // for the head of an answer and between two parts of its body; 0: ResponseTimeout, unbounded
	SendTimeout    time.Duration // for an endpoint to take the next part of a request; 0: sendTimeout
	MaxBody        int64         // bytes of a request body; 0: unlimited

	CORS        *CORS
	Auth        *Auth
	Allow, Deny []netip.Prefix // of clients; an empty Allow lets everybody in, Deny counts first
	Limits      Limits
	Canary      *Canary

	Sticky   *Sticky
	Hash     HashSource // zero: none
	Balance  Balance
	Protocol Protocol // of the endpoints; empty: by appProtocol

	RequestHeaders, ResponseHeaders []HeaderField
	UpstreamHost                    string // Host that endpoints see; empty: the client's

	// Closed says why every request is refused: annotations that protect could not be understood, or are not carried out,
	// and serving without the protection would be worse. Empty: it is not.
	Closed []string
	// ClosedHost is one of Closed that is about all routes of the object's hosts, whosever they are; empty: none is.
	ClosedHost string
}

// Redirect answers with Location: To.
type Redirect struct {
	To   string
	Code int // 301, 302, 303, 307 or 308
}

// RewriteMode says which part of a path a Rewrite replaces.
type RewriteMode int

const (
	// RewritePrefix replaces the path of the route and keeps what follows (Gateway API: ReplacePrefixMatch).
	RewritePrefix RewriteMode = iota
	// RewriteFull replaces everything (Gateway API: ReplaceFullPath), with $1 and $2 as the route's path captured.
	RewriteFull
)

// Rewrite changes the path before it is sent.
type Rewrite struct {
	To   string
	Mode RewriteMode
}

// CORS answers for other origins (Fetch standard, section 3.2).
type CORS struct {
	Origins       []string // "*", "https://a.test" or "https://*.a.test"
	Methods       string
	Headers       string
	ExposeHeaders string
	Credentials   bool
	MaxAge        int // seconds
}

// Auth asks for a name and password (RFC 7617) that the Secret holds.
type Auth struct {
	Realm  string
	Secret types.NamespacedName
}

// Limits are per client address. Zero is unlimited.
type Limits struct {
	PerSecond  float64
	Burst      int
	Concurrent int // requests at the same time
	ExemptFrom []netip.Prefix
}

// Canary makes an object take a part of the requests of another one's routes instead of routing by itself.
type Canary struct {
	Weight, Total       int
	Header, HeaderValue string         // the header in canonical form
	HeaderPattern       *regexp.Regexp // instead of HeaderValue; nil: none
	Cookie              string
}

// Sticky keeps a client with an endpoint by a cookie.
type Sticky struct {
	Cookie   string
	Path     string
	Domain   string
	MaxAge   int // seconds; 0: until the browser closes
	SameSite http.SameSite
	Secure   bool
}

// Balance is how an endpoint is chosen when nothing else decides.
type Balance string

const (
	// RoundRobin takes one after the other.
	RoundRobin Balance = ""
	// LeastRequests takes, of two random endpoints, the one with fewer requests under way.
	LeastRequests Balance = "least-requests"
)

// HashSource names the part of a request that keeps it with one endpoint.
type HashSource struct {
	Of   HashPart
	Name string // of a header in canonical form, a cookie or a query parameter
}

// HashPart is a part of a request.
type HashPart string

// The parts that requests can be spread by.
const (
	HashURI    HashPart = "uri" // path and query
	HashPath   HashPart = "path"
	HashHost   HashPart = "host"
	HashClient HashPart = "client"
	HashHeader HashPart = "header"
	HashCookie HashPart = "cookie"
	HashQuery  HashPart = "query"
)

// HeaderField sets a header or, with an empty value, removes it.
type HeaderField struct{ Name, Value string }

// Restricts says whether not every request may pass.
func (p *Policy) Restricts() bool {
	return p != nil && (len(p.Closed) > 0 || p.Auth != nil || len(p.Allow) > 0 || len(p.Deny) > 0 || p.Limits.PerSecond > 0 || p.Limits.Concurrent > 0 ||
		p.MaxBody > 0 || p.HTTPSRedirect)
}

// AuthKey is the key of the Secret of an Auth that holds the credentials, in the form of Apache's htpasswd.
const AuthKey = "auth"
