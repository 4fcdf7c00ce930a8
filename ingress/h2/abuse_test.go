package h2

import (
	"bytes"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestAbuse: what ends a connection, and with which word (RFC 9113 sections 5 to 7 and 10.5).
func TestAbuse(t *testing.T) {
	const plenty = 20000
	raw := func(kind http2.FrameType, flags http2.Flags, id uint32, payload string) func(*peer) {
		return func(p *peer) { p.must(p.WriteRawFrame(kind, flags, id, []byte(payload))) }
	}
	for name, test := range map[string]struct {
		do   func(p *peer) // stream 1 was answered before
		want http2.ErrCode
	}{
		"CONTINUATION without end": {func(p *peer) {
			p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: p.block()}))
			p.flood(plenty, func(int) error { return p.WriteContinuation(3, false, bytes.Repeat([]byte{0x88}, 8192)) })
		}, http2.ErrCodeEnhanceYourCalm},
		"empty CONTINUATION": {func(p *peer) {
			p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: p.block()}))
			p.flood(plenty, func(int) error { return p.WriteContinuation(3, false, nil) })
		}, http2.ErrCodeEnhanceYourCalm},
		"rapid reset": {func(p *peer) {
			p.flood(plenty, func(i int) error {
				if err := p.send(uint32(2*i+3), true, p.block("hold", "1")); err != nil {
					return err
				}
				return p.WriteRSTStream(uint32(2*i+3), http2.ErrCodeCancel)
			})
		}, http2.ErrCodeEnhanceYourCalm},
		"made you reset": {func(p *peer) {
			p.flood(plenty, func(i int) error {
				if err := p.send(uint32(2*i+3), false, p.block()); err != nil {
					return err
				}
				return p.WriteRawFrame(http2.FrameWindowUpdate, 0, uint32(2*i+3), make([]byte, 4))
			})
		}, http2.ErrCodeEnhanceYourCalm},
		"malformed requests without end": {func(p *peer) {
			p.flood(plenty, func(i int) error { return p.send(uint32(2*i+3), true, p.block("connection", "close")) })
		}, http2.ErrCodeEnhanceYourCalm},
		"SETTINGS": {func(p *peer) {
			p.flood(plenty, func(int) error { return p.WriteSettings() })
		}, http2.ErrCodeEnhanceYourCalm},
		"PING": {func(p *peer) {
			p.flood(plenty, func(int) error { return p.WritePing(false, [8]byte{}) })
		}, http2.ErrCodeEnhanceYourCalm},
		"PRIORITY": {func(p *peer) {
			p.flood(plenty, func(int) error { return p.WritePriority(3, http2.PriorityParam{StreamDep: 5}) })
		}, http2.ErrCodeEnhanceYourCalm},
		"empty DATA": {func(p *peer) {
			p.request(3, false)
			p.flood(plenty, func(int) error { return p.WriteData(3, false, nil) })
		}, http2.ErrCodeEnhanceYourCalm},
		"WINDOW_UPDATE": {func(p *peer) {
			p.flood(plenty, func(int) error { return p.WriteWindowUpdate(0, 1) })
		}, http2.ErrCodeEnhanceYourCalm},
		"unknown frames": {func(p *peer) {
			p.flood(plenty, func(int) error { return p.WriteRawFrame(0x77, 0, 1, nil) })
		}, http2.ErrCodeEnhanceYourCalm},
		"the connection's window made too large": {func(p *peer) { p.must(p.WriteWindowUpdate(0, maxWindow)) }, http2.ErrCodeFlowControl},
		"WINDOW_UPDATE by nothing":               {raw(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00"), http2.ErrCodeProtocol},
		"an initial window that overflows a stream's": {func(p *peer) {
			p.request(3, false)
			p.must(p.WriteWindowUpdate(3, maxWindow-defaultWindow))
			p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: defaultWindow + 1}))
		}, http2.ErrCodeFlowControl},
		"more than the connection's window": {func(p *peer) {
			for id := uint32(3); id < 13; id += 2 {
				p.request(id, false, "hold", "1")
				p.flood(15, func(int) error { return p.WriteData(id, false, make([]byte, maxFrame)) })
			}
		}, http2.ErrCodeFlowControl},
		"a stream id again": {func(p *peer) {
			p.request(1, true)
		}, http2.ErrCodeProtocol},
		"a lower stream id": {func(p *peer) {
			p.request(7, true)
			p.request(5, true)
		}, http2.ErrCodeProtocol},
		"an even stream id": {func(p *peer) { p.request(2, true) }, http2.ErrCodeProtocol},
		"DATA on a closed stream": {func(p *peer) {
			p.must(p.WriteData(1, true, []byte("more")))
		}, http2.ErrCodeStreamClosed},
		"DATA on an idle stream":          {func(p *peer) { p.must(p.WriteData(7, true, nil)) }, http2.ErrCodeProtocol},
		"RST_STREAM on an idle stream":    {func(p *peer) { p.must(p.WriteRSTStream(7, http2.ErrCodeCancel)) }, http2.ErrCodeProtocol},
		"WINDOW_UPDATE on an idle stream": {func(p *peer) { p.must(p.WriteWindowUpdate(7, 1)) }, http2.ErrCodeProtocol},
		"a frame that is too large":       {raw(http2.FrameData, 0, 1, strings.Repeat("x", maxFrame+1)), http2.ErrCodeFrameSize},
		"PING of 7 bytes":                 {raw(http2.FramePing, 0, 0, "1234567"), http2.ErrCodeFrameSize},
		"RST_STREAM of 3 bytes":           {raw(http2.FrameRSTStream, 0, 1, "123"), http2.ErrCodeFrameSize},
		"SETTINGS of 5 bytes":             {raw(http2.FrameSettings, 0, 0, "12345"), http2.ErrCodeFrameSize},
		"SETTINGS on a stream":            {raw(http2.FrameSettings, 0, 1, ""), http2.ErrCodeProtocol},
		"more padding than frame":         {raw(http2.FrameData, http2.FlagDataPadded, 1, "\x09x"), http2.ErrCodeProtocol},
		"a promise":                       {raw(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, "\x00\x00\x00\x02"), http2.ErrCodeProtocol},
		"CONTINUATION of nothing":         {raw(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, ""), http2.ErrCodeProtocol},
		"PRIORITY on itself":              {raw(http2.FramePriority, 0, 1, "\x00\x00\x00\x01\x10"), http2.ErrCodeProtocol},
		"HEADERS that depend on themselves": {func(p *peer) {
			p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: p.block(), EndStream: true, EndHeaders: true, Priority: http2.PriorityParam{StreamDep: 3, Weight: 1}}))
		}, http2.ErrCodeProtocol},
		"another frame within a header block": {func(p *peer) {
			p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: p.block()}))
			p.must(p.WritePing(false, [8]byte{}))
		}, http2.ErrCodeProtocol},
		"a header block that is no HPACK":         {raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, "\xff\xff\xff\xff\xff\xff\xff\xff"), http2.ErrCodeCompression},
		"a header block that ends within a field": {raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 3, "\x40\x05ab"), http2.ErrCodeCompression},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connect(t, limits(func(st *Stream) {
				if st.Get("hold") != "" {
					<-waitFor(st)
					return
				}
				ok(st)
			}))
			p.request(1, true)
			p.wants(1, "200")
			go test.do(p) // the answers to a flood must not stop it
			p.ends(test.want)
		})
	}
}

// waitFor is closed when a stream has ended.
func waitFor(st *Stream) <-chan struct{} {
	done := make(chan struct{})
	if !st.onCancel(func(error) { close(done) }) {
		close(done)
	}
	return done
}

// TestStreamMistakes: what ends one stream, while the connection serves the next.
func TestStreamMistakes(t *testing.T) {
	bare := func(fields ...string) func(*peer) {
		return func(p *peer) { p.must(p.send(1, true, p.exactly(fields...))) }
	}
	with := func(fields ...string) func(*peer) { return func(p *peer) { p.request(1, true, fields...) } }
	for name, test := range map[string]struct {
		do   func(p *peer)
		want string
	}{
		"more than its Content-Length": {func(p *peer) {
			p.request(1, false, "content-length", "3")
			p.must(p.WriteData(1, false, []byte("more")))
		}, "reset PROTOCOL_ERROR"},
		"less than its Content-Length": {func(p *peer) {
			p.request(1, false, "content-length", "3")
			p.must(p.WriteData(1, true, []byte("ab")))
		}, "reset PROTOCOL_ERROR"},
		"Content-Length without a body": {with("content-length", "3"), "reset PROTOCOL_ERROR"},
		"two Content-Lengths":           {with("content-length", "0", "content-length", "0"), "reset PROTOCOL_ERROR"},
		"a signed Content-Length":       {with("content-length", "+0"), "reset PROTOCOL_ERROR"},
		"DATA behind the end": {func(p *peer) {
			p.request(1, true, "hold", "1")
			p.must(p.WriteData(1, false, []byte("more")))
		}, "reset STREAM_CLOSED"},
		"HEADERS behind the end": {func(p *peer) {
			p.request(1, true, "hold", "1")
			p.must(p.send(1, true, p.exactly("a", "b")))
		}, "reset STREAM_CLOSED"},
		"trailers that do not end": {func(p *peer) {
			p.request(1, false, "hold", "1")
			p.must(p.send(1, false, p.exactly("a", "b")))
		}, "reset PROTOCOL_ERROR"},
		"a pseudo-header in trailers": {func(p *peer) {
			p.request(1, false, "hold", "1")
			p.must(p.send(1, true, p.exactly(":path", "/")))
		}, "reset PROTOCOL_ERROR"},
		"more than the stream's window": {func(p *peer) {
			p.request(1, false, "hold", "1")
			p.flood(17, func(int) error { return p.WriteData(1, false, make([]byte, maxFrame)) })
		}, "reset FLOW_CONTROL_ERROR"},
		"a window made too large": {func(p *peer) {
			p.request(1, false, "hold", "1")
			p.must(p.WriteWindowUpdate(1, maxWindow))
		}, "reset FLOW_CONTROL_ERROR"},
		"an upper case name":      {with("X-Y", "z"), "reset PROTOCOL_ERROR"},
		"a name with a space":     {with("x y", "z"), "reset PROTOCOL_ERROR"},
		"an empty name":           {with("", "z"), "reset PROTOCOL_ERROR"},
		"CR LF in a value":        {with("x", "a\r\nb: c"), "reset PROTOCOL_ERROR"},
		"NUL in a value":          {with("x", "a\x00b"), "reset PROTOCOL_ERROR"},
		"a value with space ends": {with("x", " a"), "reset PROTOCOL_ERROR"},
		"Connection":              {with("connection", "x"), "reset PROTOCOL_ERROR"},
		"Transfer-Encoding":       {with("transfer-encoding", "chunked"), "reset PROTOCOL_ERROR"},
		"Upgrade":                 {with("upgrade", "websocket"), "reset PROTOCOL_ERROR"},
		"TE":                      {with("te", "gzip"), "reset PROTOCOL_ERROR"},
		"another host":            {with("host", "frog"), "reset PROTOCOL_ERROR"},
		"an unknown scheme":       {with(":scheme", "ftp"), "reset PROTOCOL_ERROR"},
		"an empty path":           {with(":path", ""), "reset PROTOCOL_ERROR"},
		"a relative path":         {with(":path", "a"), "reset PROTOCOL_ERROR"},
		"a method with a space":   {with(":method", "GET /"), "reset PROTOCOL_ERROR"},
		"LF in the path":          {with(":path", "/\nx"), "reset PROTOCOL_ERROR"},
		"a status":                {with(":status", "200"), "reset PROTOCOL_ERROR"},
		"no path":                 {bare(":method", "GET", ":scheme", "http", ":authority", "toad"), "reset PROTOCOL_ERROR"},
		"no method":               {bare(":path", "/", ":scheme", "http", ":authority", "toad"), "reset PROTOCOL_ERROR"},
		"no host":                 {bare(":method", "GET", ":scheme", "http", ":path", "/"), "reset PROTOCOL_ERROR"},
		"two paths":               {bare(":method", "GET", ":scheme", "http", ":authority", "toad", ":path", "/", ":path", "/"), "reset PROTOCOL_ERROR"},
		"pseudo behind regular":   {bare(":method", "GET", ":scheme", "http", ":authority", "toad", "a", "b", ":path", "/"), "reset PROTOCOL_ERROR"},
		"CONNECT with a path":     {bare(":method", "CONNECT", ":scheme", "http", ":authority", "toad", ":path", "/"), "reset PROTOCOL_ERROR"},
		"a header that is too large": {func(p *peer) {
			p.request(1, true, "x", strings.Repeat("y", 12<<10), "z", strings.Repeat("y", 12<<10), "z", strings.Repeat("~", 12<<10))
		}, "431"},
		"Host instead of :authority": {bare(":method", "GET", ":scheme", "http", ":path", "/", "host", "toad"), "200"},
		"nothing wrong":              {with("te", "trailers", "x", "y"), "200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := connect(t, limits(func(st *Stream) {
				if st.Get("hold") != "" {
					<-waitFor(st)
					return
				}
				ok(st)
			}))
			test.do(p)
			p.wants(1, test.want)
			p.request(3, false)
			p.must(p.WriteData(3, true, []byte("still here")))
			p.wants(3, "200 still here")
		})
	}
}

// TestHeaderBombs: a few bytes that stand for many fields of 4 KiB cost what they are, and the connection goes on.
func TestHeaderBombs(t *testing.T) {
	p := connect(t, limits(ok))
	first := p.block("bomb", strings.Repeat("b", 3900))
	p.must(p.send(1, true, first))
	p.wants(1, "200")
	before := allocated()
	for i := range 100 {
		// 0xbe is the newest entry of the dynamic table
		p.must(p.send(uint32(2*i+3), true, append(p.block(), bytes.Repeat([]byte{0xbe}, 16000)...)))
		p.wants(uint32(2*i+3), "431")
	}
	if grown := allocated() - before; grown > 64<<20 {
		t.Errorf("6 GiB of headers made us allocate %d MiB", grown>>20)
	}
	p.request(1001, true)
	p.wants(1001, "200")
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestResetStreamsStayCounted: a client that resets its streams has no more of them under way than one that waits.
func TestResetStreamsStayCounted(t *testing.T) {
	var now, most atomic.Int64
	release := make(chan struct{})
	p := connect(t, limits(func(st *Stream) {
		n := now.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-release
		now.Add(-1)
	}))
	for i := range 100 {
		p.request(uint32(2*i+1), true)
		p.must(p.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel))
	}
	p.request(301, true)
	p.wants(301, "reset REFUSED_STREAM")
	close(release)
	if got := most.Load(); got > 10 {
		t.Errorf("%d requests at once, 10 are allowed", got)
	}
	for id := uint32(303); ; id += 2 { // until the last goroutine has gone
		p.request(id, true)
		if got := p.outcome(id); got == "reset INTERNAL_ERROR" {
			break // served: this handler answers nothing
		} else if got != "reset REFUSED_STREAM" {
			t.Fatal(got)
		}
	}
}

// TestShutWindow: an answer that the client does not let come ends after a while, and with it what it holds.
func TestShutWindow(t *testing.T) {
	failed := make(chan error, 1)
	cfg := limits(func(st *Stream) {
		var head Block
		head.Begin(200)
		failed <- st.Send(&head, make([]byte, 100<<10), true)
	})
	cfg.Answers.Most = 50 * time.Millisecond
	p := connect(t, cfg, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.request(1, true)
	p.wants(1, "reset CANCEL")
	if err := <-failed; err == nil {
		t.Error("the answer was sent through a window that is shut")
	}
	p.must(p.WriteWindowUpdate(3, 100))
}

// TestNobodyReads: acknowledgements for a peer that takes nothing do not pile up; we stop reading, and then it is out.
func TestNobodyReads(t *testing.T) {
	cfg := limits(ok)
	p := connect(t, cfg)
	p.must(p.tcp.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)))
	var b [4096 * 17]byte
	for i := 0; i < len(b); i += 17 {
		copy(b[i:], "\x00\x00\x08\x06\x00\x00\x00\x00\x00")
	}
	sent := 0
	for range 4000 {
		// a request in between keeps it from being called a flood
		p.buf.Reset()
		n, err := p.tcp.Write(b[:2000*17])
		if sent += n; err != nil {
			break
		}
		if p.send(uint32(2*sent+1)&0x7fffffff|1, true, p.exactly(":method", "GET", ":scheme", "http", ":authority", "t", ":path", "/")) != nil {
			break
		}
	}
	p.c.mu.Lock()
	waiting := len(p.c.out)
	p.c.mu.Unlock()
	if waiting > 2*outMost {
		t.Errorf("%d bytes wait for a peer that reads nothing (it sent %d)", waiting, sent)
	}
	if sent > 64<<20 {
		t.Errorf("%d bytes were read from a peer that reads nothing", sent)
	}
}
