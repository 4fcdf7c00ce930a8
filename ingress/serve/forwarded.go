package serve

import (
	"bytes"
	"net/http"
	"net/netip"
	"strings"

	"svcplane/ingress/http1"
)

// forwarding is what a proxy in front of us says about a request: whom it forwards it for.
type forwarding struct {
	chain             string // X-Forwarded-For: who asked it, then each proxy but the last
	proto, host, port string // the first X-Forwarded-Proto, -Host, -Port; empty: not said
	forwarded         string // Forwarded (RFC 7239)
}

// trustedChain is what a head says whose fields were not kept: it reads the head again, which only peers that are
// trusted cost.
func trustedChain(head []byte) (said forwarding) {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		if name, value, found := bytes.Cut(line, []byte(":")); found {
			said.add(name, http1.TrimSpace(value))
		}
	}
	return said
}

func forwardingOf(h http.Header) (said forwarding) {
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded"} {
		for _, value := range h[name] {
			said.add(http1.Bytes(name), http1.Bytes(value))
		}
	}
	return said
}

func (s *forwarding) add(name, value []byte) {
	switch {
	case http1.IsName(name, "x-forwarded-for"):
		s.chain = joined(s.chain, value)
	case http1.IsName(name, "forwarded"):
		s.forwarded = joined(s.forwarded, value)
	case http1.IsName(name, "x-forwarded-proto") && s.proto == "":
		s.proto = string(value)
	case http1.IsName(name, "x-forwarded-host") && s.host == "":
		s.host = string(value)
	case http1.IsName(name, "x-forwarded-port") && s.port == "":
		s.port = string(value)
	}
}

// joined is a list header that came in several lines.
func joined(list string, value []byte) string {
	if list != "" {
		list += ", "
	}
	return list + string(value)
}

// client decides who asked, by what peer, who is trusted, says. X-Forwarded-For comes before Forwarded, which counts
// only if all of it can be understood.
func (s *forwarding) client(trusted []netip.Prefix, peer netip.Addr) (client netip.Addr) {
	hops, ok := parseForwarded(s.forwarded)
	if s.chain != "" || !ok {
		return lastUntrusted(s.chain, trusted, peer)
	}
	for _, h := range hops {
		s.chain = joined(s.chain, []byte(h.node))
	}
	client = lastUntrusted(s.chain, trusted, peer)
	for i := len(hops) - 1; i >= 0; i-- {
		// what the proxy says that the client came to: others may have written what is before it
		if addr, err := netip.ParseAddr(hops[i].node); err == nil && addr.Unmap() == client {
			s.proto, s.host = hops[i].proto, hops[i].host
			break
		}
	}
	return client
}

// hop is an element of Forwarded.
type hop struct{ node, proto, host string }

// parseForwarded reads the elements (RFC 7239 section 4); false when there are none or any is malformed. Ports of nodes
// are left out.
func parseForwarded(text string) (hops []hop, ok bool) {
	for rest := text; ; {
		var h hop
		for {
			var name, value string
			if name, value, rest, ok = forwardedPair(rest); !ok {
				return nil, false
			}
			switch strings.ToLower(name) {
			case "for":
				h.node, ok = nodeAddress(value)
			case "proto":
				h.proto = strings.ToLower(value)
			case "host":
				h.host, ok = value, http1.ValidHost(http1.Bytes(value))
			}
			if !ok {
				return nil, false
			}
			if !strings.HasPrefix(rest, ";") {
				break
			}
			rest = rest[1:]
		}
		if h.node == "" {
			return nil, false
		}
		hops = append(hops, h)
		if rest == "" {
			return hops, true
		}
		if rest[0] != ',' {
			return nil, false
		}
		rest = rest[1:]
	}
}

// forwardedPair reads name=value, where value is a token or a quoted string, and the space around it.
func forwardedPair(text string) (name, value, rest string, ok bool) {
	name, rest, ok = strings.Cut(strings.TrimLeft(text, " \t"), "=")
	if !ok || !isToken(name) {
		return "", "", "", false
	}
	if quoted, is := strings.CutPrefix(rest, `"`); is {
		if value, rest, ok = strings.Cut(quoted, `"`); !ok || strings.Contains(value, `\`) {
			return "", "", "", false // no name or address has anything to escape
		}
	} else {
		end := strings.IndexAny(rest, ";, \t")
		if end < 0 {
			end = len(rest)
		}
		if value, rest = rest[:end], rest[end:]; !isToken(value) {
			return "", "", "", false
		}
	}
	return name, value, strings.TrimLeft(rest, " \t"), true
}

// nodeAddress is an address without its port, "unknown", or a name that hides one (RFC 7239 section 6).
func nodeAddress(node string) (string, bool) {
	if addr, err := netip.ParseAddrPort(node); err == nil {
		return addr.Addr().String(), true
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(node, "["), "]")
	if addr, err := netip.ParseAddr(bare); err == nil {
		return addr.String(), addr.Is4() == (bare == node)
	}
	return node, isToken(node)
}

func isToken(text string) bool {
	for i := 0; i < len(text); i++ {
		if !http1.Token(text[i]) {
			return false
		}
	}
	return text != ""
}

// tell puts what peer, who is trusted, says into what the endpoint is told.
func (s *forwarding) tell(who *http1.Forwarded, trusted []netip.Prefix, peer netip.Addr) {
	who.Client = s.client(trusted, peer)
	who.Node = nodeText(who.Client)
	who.Chain, who.Host = s.chain, s.host
	if s.proto == "http" || s.proto == "https" {
		who.Proto = s.proto
	}
	if s.port != "" {
		who.Port = s.port
	}
}
