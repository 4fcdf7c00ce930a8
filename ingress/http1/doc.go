// Package http1 reads and writes the heads and the framing of HTTP/1.1 (RFC 9112) without copying them: what it has read are
// slices of the connection's buffer.
//
//	bytes of a client    ─▶ RequestHead.Parse  ─▶ AppendRequest ─▶ bytes for an endpoint
//	bytes of an endpoint ─▶ ResponseHead.Parse ─▶ AppendTo      ─▶ bytes for a client;  Chunks follows a chunked body
//	bytes of a client    ─▶ Scanner.Feed: does net/http get to see them?
//
// Invariants:
//   - RequestHead takes only what leaves no room for two opinions; it refuses nothing, but leaves the rest to the Scanner.
//   - What the Scanner lets through, every server reads in the same way.
//   - Nothing is allocated for a head.
package http1
