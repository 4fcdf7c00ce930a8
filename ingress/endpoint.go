package ingress

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// protocolOf maps appProtocol: the names of KEP-3726 (kubernetes.io/h2c, /ws, /wss), IANA's service names, and
// grpc. What is unknown is plain HTTP/1.1, as without the field.
func protocolOf(appProtocol string) Protocol {
	switch appProtocol {
	case "kubernetes.io/h2c", "h2c", "grpc":
		return ProtocolH2C
	case "https", "HTTPS", "kubernetes.io/wss", "wss", "grpcs":
		return ProtocolTLS
	}
	return ProtocolHTTP1
}

const (
	dialTimeout         = 3 * time.Second
	idleConnTimeout     = 60 * time.Second
	idleConnsPerHost    = 128
	responseTimeout     = 60 * time.Second // to the head of the response, not for streams over h2c
	maxAnswerHead       = 32 << 10         // as large as that of a request
	upstreamPingTimeout = 15 * time.Second
)

// endpoint is one address with its own connection pool, so that its connections can be closed when it goes.
type endpoint struct {
	addr      netip.AddrPort
	protocol  Protocol
	host      string // addr as text
	transport *http.Transport
	upgrade   *http.Transport // for requests that switch protocols, which only HTTP/1.1 can

	id        uint64        // endpointID
	wires     pool          // of the fast path
	lines     *lines        // counts what is open, here and elsewhere
	requests  gate          // those under way
	drained   chan struct{} // closed when retired and no request is under way
	restUntil atomic.Int64  // unix nanoseconds
	failures  atomic.Int32  // in a row
	ejections atomic.Int32
	stats     stats
}

func newEndpoint(addr netip.AddrPort, p Protocol) *endpoint {
	e := &endpoint{addr: addr, protocol: p, host: addr.String(), id: endpointID(addr), drained: make(chan struct{}), lines: &lines{}}
	e.requests.onEmpty = e.close
	e.transport = newTransport(e.dial, p)
	e.upgrade = e.transport
	if p == ProtocolH2C {
		e.upgrade = newTransport(e.dial, ProtocolHTTP1)
	}
	return e
}

func newTransport(dial func(context.Context) (net.Conn, error), p Protocol) *http.Transport {
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		ExpectContinueTimeout:  time.Second,
		TLSHandshakeTimeout:    dialTimeout,
		MaxResponseHeaderBytes: maxAnswerHead,
		Protocols:              new(http.Protocols),
	}
	switch p {
	case ProtocolH2C:
		t.Protocols.SetUnencryptedHTTP2(true)
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: upstreamPingTimeout, PingTimeout: upstreamPingTimeout}
	case ProtocolTLS:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
		// The certificate of a pod names nothing that we dial, and there is no CA to ask: as everywhere with
		// Ingress, TLS to an endpoint keeps passive listeners out and proves no identity.
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	default:
		t.Protocols.SetHTTP1(true)
	}
	return t
}

// dialError says that no connection was made, so that nothing of the request was sent.
type dialError struct {
	host string
	err  error
}

func (e *dialError) Error() string {
	return fmt.Sprintf("connecting to endpoint %s: %v", e.host, e.err)
}
func (e *dialError) Unwrap() error { return e.err }

// connectTimeout is the key of a time that a request's context gives for connecting.
type connectTimeout struct{}

// dial connects for one of the transports.
func (e *endpoint) dial(ctx context.Context) (net.Conn, error) {
	if limit, ok := ctx.Value(connectTimeout{}).(time.Duration); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	c, err := e.connect(ctx, dialTimeout)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// connect makes a connection, if there may be one more.
func (e *endpoint) connect(ctx context.Context, limit time.Duration) (*line, error) {
	if err := e.lines.take(); err != nil {
		return nil, err // no failure of the endpoint
	}
	d := &net.Dialer{Timeout: limit}
	c, err := d.DialContext(ctx, "tcp", e.host)
	if err != nil {
		e.lines.give()
		return nil, &dialError{e.host, err}
	}
	return &line{TCPConn: c.(*net.TCPConn), lines: e.lines}, nil
}

// answerTimeout is the cause of a request's end when an endpoint does not answer in time.
type answerTimeout struct{}

func (answerTimeout) Error() string { return "the endpoint did not answer in time" }
func (answerTimeout) Timeout() bool { return true }

// roundTrip sends req here. The caller has entered e.requests, which is left when the response body is closed. An
// endpoint that does not answer in time, after the request was sent, or does not take the next part of the request's body,
// ends it with answerTimeout.
func (e *endpoint) roundTrip(req *http.Request, p *Policy, body *trackedBody) (*http.Response, error) {
	ctx := req.Context()
	if p.ConnectTimeout > 0 {
		ctx = context.WithValue(ctx, connectTimeout{}, p.ConnectTimeout)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req = req.WithContext(ctx)
	req.URL.Host, req.URL.Scheme = e.host, "http"
	if e.protocol == ProtocolTLS {
		req.URL.Scheme = "https"
	}
	transport := e.transport
	if req.Header.Get("Upgrade") != "" {
		transport = e.upgrade
	}
	held := &heldBody{e: e, limit: p.ReadTimeout, cancel: cancel}
	head := e.headLimit(p.ReadTimeout)
	if send := cmp.Or(p.SendTimeout, head); head > 0 || body != nil && send > 0 {
		held.timer = time.AfterFunc(cmp.Or(head, send), func() { cancel(answerTimeout{}) })
		body.onTurn(func(t turn) {
			switch {
			case t == endpointsTurn && send > 0:
				held.timer.Reset(send)
			case t == bodySent && head > 0:
				held.timer.Reset(head)
			default:
				held.timer.Stop() // the client has limits of its own
			}
		})
	}
	resp, err := transport.RoundTrip(req)
	body.onTurn(nil)
	held.stop()
	switch {
	case err != nil:
		e.requests.leave()
		if errors.Is(context.Cause(ctx), answerTimeout{}) {
			err = answerTimeout{}
		}
		cancel(nil)
	case resp.StatusCode == http.StatusSwitchingProtocols:
		e.requests.leave() // it lives as long as both ends like, whatever becomes of the endpoint
	default:
		held.ReadCloser = resp.Body
		resp.Body = held
	}
	return resp, err
}

func (e *endpoint) headLimit(limit time.Duration) time.Duration {
	if limit == 0 && e.protocol != ProtocolH2C {
		return responseTimeout
	}
	return limit
}

// heldBody releases its endpoint when it is closed, and ends a request whose answer stops coming.
type heldBody struct {
	io.ReadCloser
	e      *endpoint
	once   sync.Once
	limit  time.Duration // between two reads; 0: none
	timer  *time.Timer   // nil: none
	cancel context.CancelCauseFunc
}

func (b *heldBody) Read(p []byte) (int, error) {
	if b.limit > 0 {
		b.timer.Reset(b.limit)
		defer b.timer.Stop()
	}
	return b.ReadCloser.Read(p)
}

func (b *heldBody) Close() error {
	err := b.ReadCloser.Close()
	b.stop()
	b.cancel(nil)
	b.once.Do(b.e.requests.leave)
	return err
}

func (b *heldBody) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}

// retire closes the idle connections now, and those of requests under way when they end.
func (e *endpoint) retire() {
	e.closeIdle()
	e.requests.shut()
}

func (e *endpoint) close() {
	e.closeIdle()
	close(e.drained)
}

func (e *endpoint) closeIdle() {
	e.wires.close()
	e.transport.CloseIdleConnections()
	if e.upgrade != e.transport {
		e.upgrade.CloseIdleConnections()
	}
}

// rest makes pick pass the endpoint over for a while.
func (e *endpoint) rest() { e.restFor(restAfterFailure) }

func (e *endpoint) restFor(d time.Duration) { e.restUntil.Store(time.Now().Add(d).UnixNano()) }

func (e *endpoint) resting() bool {
	until := e.restUntil.Load()
	return until != 0 && time.Now().UnixNano() < until
}
