package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"svcplane/ingress/pace"
)

// peer is a client that says what no client should.
type peer struct {
	*http2.Framer
	t   *testing.T
	tcp net.Conn
	enc *hpack.Encoder
	buf bytes.Buffer
	c   *Conn
}

// limits are small, so that tests need not send much.
func limits(serve func(*Stream)) *Config {
	return &Config{Serve: serve, MaxStreams: 10, MaxHeaderBytes: 32 << 10, HeaderTimeout: 20 * time.Second, IdleTimeout: 20 * time.Second, Answers: pace.Limit{Most: 20 * time.Second}}
}

// ok answers 200 with the body that came.
func ok(st *Stream) {
	body, err := io.ReadAll(st)
	if err != nil {
		return
	}
	var head Block
	head.Begin(200)
	_ = st.Send(&head, body, true) // the test sees what came
}

// connect serves one connection and greets.
func connect(t *testing.T, cfg *Config, settings ...http2.Setting) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, tcp: client, c: NewConn(cfg, server, nil), Framer: http2.NewFramer(client, client)}
	p.enc = hpack.NewEncoder(&p.buf)
	p.AllowIllegalWrites = true
	var wg sync.WaitGroup
	wg.Go(p.c.Serve)
	t.Cleanup(func() {
		client.Close()
		wg.Wait()
	})
	p.must(client.SetDeadline(time.Now().Add(30 * time.Second)))
	_, err = io.WriteString(client, http2.ClientPreface)
	p.must(err)
	p.must(p.WriteSettings(settings...))
	return p
}

func (p *peer) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// block is a header block: a GET for / and these fields, of which those with a name of a pseudo-header replace it.
func (p *peer) block(fields ...string) []byte {
	all := []string{":method", "GET", ":scheme", "http", ":authority", "toad", ":path", "/"}
	for i := 0; i < len(fields); i += 2 {
		at := -1
		for j := 0; j < 8; j += 2 {
			if all[j] == fields[i] {
				at = j
			}
		}
		if at >= 0 {
			all[at+1] = fields[i+1]
		} else {
			all = append(all, fields[i], fields[i+1])
		}
	}
	return p.exactly(all...)
}

// exactly is a header block of these fields.
func (p *peer) exactly(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.must(p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(p.buf.Bytes())
}

func (p *peer) request(id uint32, end bool, fields ...string) {
	p.t.Helper()
	p.must(p.send(id, end, p.block(fields...)))
}

func (p *peer) send(id uint32, end bool, block []byte) error {
	first := min(len(block), maxFrame)
	err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:first], EndStream: end, EndHeaders: first == len(block)})
	for block = block[first:]; len(block) > 0 && err == nil; block = block[first:] {
		first = min(len(block), maxFrame)
		err = p.WriteContinuation(id, first == len(block), block[:first])
	}
	return err
}

// flood sends until the other side has closed, or n times.
func (p *peer) flood(n int, send func(i int) error) {
	for i := range n {
		if send(i) != nil {
			return
		}
	}
}

// outcome reads until stream id has ended, or the connection: "200 body", "reset CODE", "goaway CODE", "closed".
func (p *peer) outcome(id uint32) string {
	status, body := "", ""
	dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			status = f.Value
		}
	})
	for {
		f, err := p.ReadFrame()
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return "nothing"
			}
			return "closed"
		}
		ended := f.Header().Flags.Has(http2.FlagDataEndStream)
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return fmt.Sprint("goaway ", f.ErrCode)
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return fmt.Sprint("reset ", f.ErrCode)
			}
		case *http2.HeadersFrame:
			if _, err := dec.Write(f.HeaderBlockFragment()); err != nil {
				p.t.Fatal(err)
			}
			if f.StreamID == id && ended {
				return status
			}
		case *http2.DataFrame:
			if f.StreamID == id {
				if body += string(f.Data()); ended {
					return status + " " + body
				}
			}
		}
	}
}

func (p *peer) wants(id uint32, want string) {
	p.t.Helper()
	if got := p.outcome(id); got != want {
		p.t.Fatalf("%q, want %q", got, want)
	}
}

// ends wants GOAWAY with code, and the end of the connection behind it.
func (p *peer) ends(code http2.ErrCode) {
	p.t.Helper()
	p.wants(0, fmt.Sprint("goaway ", code))
	for {
		if _, err := p.ReadFrame(); err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				p.t.Fatal("it is not closed")
			}
			return
		}
	}
}
