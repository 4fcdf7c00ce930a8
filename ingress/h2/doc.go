// Package h2 is the server's side of an HTTP/2 connection (RFC 9113) for a proxy: frames, header compression, flow
// control both ways and the life of streams, and nothing of what is asked for. It exists because net/http's server
// hands every frame from goroutine to goroutine and every header through a map, which costs a proxy more than
// everything else that it does.
//
//	client ─▶ Conn.Serve: frames ─▶ Request ─▶ one goroutine per stream ─▶ Config.Serve(*Stream)
//	                                                                        │ Read, Send, or ServeHTTP for an http.Handler
//	client ◀── one write ◀── frames of all streams that are ready ◀─────────┘
//
// Invariants:
//   - What a peer can make us keep is bounded: streams (also those that it has reset, until they have ended here),
//     header blocks, body bytes by the windows that we grant, frames that wait to be written.
//   - A request reaches Config.Serve only if it is well-formed (RFC 9113 section 8.1.1); no name or value in it can end
//     a line of HTTP/1.1.
//   - Bytes of a body count against the connection's window until somebody has read them or nobody will.
//   - An answer that is cut off ends with RST_STREAM, never with END_STREAM.
//   - Frames that bring nothing, and streams that end before their answer, are counted: too many end the connection
//     with ENHANCE_YOUR_CALM.
package h2
