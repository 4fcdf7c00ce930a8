package http1

import (
	"net/netip"
	"strconv"
)

// Target is what an endpoint is asked for.
type Target struct {
	Path     string
	Query    string // without "?"
	HasQuery bool   // there is a "?"
	Host     string
}

// AppendRequest writes the head that the endpoint gets.
func (h *RequestHead) AppendRequest(out []byte, to *Target, c *Forwarded) []byte {
	out = append(out, h.Method...)
	out = append(out, ' ')
	out = append(out, to.Path...)
	if to.HasQuery {
		out = append(out, '?')
		out = append(out, to.Query...)
	}
	out = append(out, " HTTP/1.1\r\nHost: "...)
	out = append(out, to.Host...)
	out = append(out, "\r\n"...)
	for _, f := range h.Fields[:h.N] {
		out = append(out, f.Name...)
		out = append(out, ": "...)
		out = append(out, f.Value...)
		out = append(out, "\r\n"...)
	}
	if h.Length > 0 || len(h.Method) > 2 && (h.Method[0] == 'P') {
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, int64(h.Length), 10)
		out = append(out, "\r\n"...)
	}
	if h.Upgrade == IsHandshake {
		out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	return c.AppendTo(out, h.Host)
}

// Forwarded is what the endpoint is told about who asked. It is the same for a connection unless the peer is a trusted
// proxy.
type Forwarded struct {
	Client                   netip.Addr
	Chain, Proto, Host, Port string // Chain: X-Forwarded-For of proxies before the peer; Host: empty for that of the request
	Peer                     string
	Node                     string // Client as the header Forwarded writes it
}

// AppendTo writes the fields, and the end of the head.
func (c *Forwarded) AppendTo(out, host []byte) []byte {
	out = append(out, "X-Forwarded-For: "...)
	if c.Chain != "" {
		out = append(out, c.Chain...)
		out = append(out, ", "...)
	}
	out = append(out, c.Peer...)
	out = append(out, "\r\nX-Real-Ip: "...)
	out = c.Client.AppendTo(out)
	out = append(out, "\r\nX-Forwarded-Proto: "...)
	out = append(out, c.Proto...)
	out = append(out, "\r\nX-Forwarded-Host: "...)
	if c.Host != "" {
		out = append(out, c.Host...)
	} else {
		out = append(out, host...)
	}
	out = append(out, "\r\nX-Forwarded-Port: "...)
	out = append(out, c.Port...)
	out = append(out, "\r\nForwarded: for="...)
	out = append(out, c.Node...)
	out = append(out, ";proto="...)
	out = append(out, c.Proto...)
	out = append(out, `;host="`...)
	out = append(out, host...)
	return append(out, "\"\r\n\r\n"...)
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
