package serve

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"svcplane/ingress/http1"
	"svcplane/ingress/pace"
	"svcplane/ingress/route"
	"svcplane/ingress/upstream"
)

// call is one request on its way: who asked, which route took it, who answers. It belongs to the request's
// goroutine, except decision, which does not change once the request is sent.
type call struct {
	began    time.Time
	peer     netip.AddrPort // the connection's other end, or whom a PROXY header names
	client   netip.Addr     // who asked, through trusted proxies
	chain    string         // X-Forwarded-For from trusted proxies, without peer; empty: none
	proto    string         // "http" or "https", as the client sees it
	said     forwarding     // of a trusted peer; empty: it is not trusted, or says nothing
	route    *Route
	group    *upstream.Group  // of the route, that was entered
	decision *route.Decision  // nil: the route has no policy
	attempt  upstream.Attempt // to send it
	path     string           // of the request before any rewriting
	query    string
	ended    string // slowBody or slowReader; empty: the client was not too slow
	exchanged
}

type callKey struct{}

// callOf is the call of a request's context; an empty one if it came another way.
func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{}
}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// plan is that of the route; nil if it has no policy.
func (c *call) plan() *route.Plan {
	if c.route == nil {
		return nil
	}
	return c.route.guard.plan()
}

// identify finds out who asks. What a peer says about earlier ones counts only if it is trusted; then the client
// is the last address in the chain that is not.
func (s *Server) identify(r *http.Request) *call {
	c := &call{began: time.Now(), proto: "http", exchanged: exchanged{verb: http1.VerbOf(r.Method)}}
	c.peer, _ = netip.ParseAddrPort(r.RemoteAddr) // net/http wrote it
	c.client = c.peer.Addr().Unmap()
	if r.TLS != nil {
		c.proto = "https"
	}
	if len(s.trusted) == 0 || !route.Within(s.trusted, c.client) {
		return c
	}
	c.said = forwardingOf(r.Header)
	c.client = c.said.client(s.trusted, c.client)
	c.chain = c.said.chain
	if p := c.said.proto; p == "http" || p == "https" {
		c.proto = p
	}
	return c
}

// lastUntrusted walks a chain of proxies back from peer. What is no address ends it: nobody vouches for it.
func lastUntrusted(chain string, trusted []netip.Prefix, peer netip.Addr) netip.Addr {
	client := peer
	for chain != "" && route.Within(trusted, client) {
		text := chain
		if i := strings.LastIndexByte(chain, ','); i >= 0 {
			chain, text = chain[:i], chain[i+1:]
		} else {
			chain = ""
		}
		addr, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return client
		}
		client = addr.Unmap().WithZone("")
	}
	return client
}

// forward says to the endpoint who asked for what (RFC 7239 and its older relatives).
func (c *call) forward(out http.Header, host, port string) {
	peer := c.peer.Addr().Unmap().WithZone("")
	if !peer.IsValid() {
		return
	}
	chain := peer.String()
	if c.chain != "" {
		chain = c.chain + ", " + chain
	}
	out.Set("X-Forwarded-For", chain)
	out.Set("X-Real-Ip", c.client.String())
	out.Set("X-Forwarded-Proto", c.proto)
	out.Set("X-Forwarded-Host", host)
	if port != "" {
		out.Set("X-Forwarded-Port", port)
	}
	if c.said.host != "" {
		out.Set("X-Forwarded-Host", c.said.host)
	}
	if c.said.port != "" {
		out.Set("X-Forwarded-Port", c.said.port)
	}
	out.Set("Forwarded", forwarded(c.client, c.proto, host))
}

// forwarded is the value of the Forwarded header (RFC 7239 section 4).
func forwarded(client netip.Addr, proto, host string) string {
	text := "for=" + nodeText(client) + ";proto=" + proto
	if !strings.ContainsAny(host, `"\`) {
		text += `;host="` + host + `"`
	}
	return text
}

// nodeText is an address as Forwarded writes it (RFC 7239 section 6).
func nodeText(a netip.Addr) string {
	if a.Is6() {
		return `"[` + a.String() + `]"`
	}
	return a.String()
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }

// Why a request ended early, as the access log and the metrics say it.
const (
	slowBody   = "slow body"
	slowReader = "slow reader"
)

// lag notes why the request ends if err says that the client was too slow.
func (c *call) lag(err error, how string) {
	if errors.Is(err, pace.ErrSlow) {
		c.ended = how
	}
}
