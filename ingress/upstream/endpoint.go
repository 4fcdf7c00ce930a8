package upstream

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

	"svcplane/ingress/route"
)

// protocolOf maps appProtocol: the names of KEP-3726 (kubernetes.io/h2c, /ws, /wss), IANA's service names, and
// grpc. What is unknown is plain HTTP/1.1, as without the field.
func protocolOf(appProtocol string) route.Protocol {
	switch appProtocol {
	case "kubernetes.io/h2c", "h2c", "grpc":
		return route.ProtocolH2C
	case "https", "HTTPS", "kubernetes.io/wss", "wss", "grpcs":
		return route.ProtocolTLS
	}
	return route.ProtocolHTTP1
}

const (
	dialTimeout         = 3 * time.Second
	idleConnTimeout     = 60 * time.Second
	idleConnsPerHost    = 128
	ResponseTimeout     = 60 * time.Second // to the head of the response, not for streams over h2c
	maxAnswerHead       = 32 << 10         // as large as that of a request
	upstreamPingTimeout = 15 * time.Second
)

// Endpoint is one address with its own connection pool, so that its connections can be closed when it goes.
type Endpoint struct {
	Addr      netip.AddrPort
	protocol  route.Protocol
	Host      string // addr as text
	transport *http.Transport
	upgrade   *http.Transport // for requests that switch protocols, which only HTTP/1.1 can

	ID        uint64        // endpointID
	Conns     pool          // of Dial
	lines     *connBudget   // counts what is open, here and elsewhere
	Requests  gate          // those under way
	empty     chan struct{} // closed when retired and no request is under way
	restUntil atomic.Int64  // unix nanoseconds
	failures  atomic.Int32  // in a row
	ejections atomic.Int32
	Stats     Stats
}

func newEndpoint(addr netip.AddrPort, p route.Protocol) *Endpoint {
	e := &Endpoint{Addr: addr, protocol: p, Host: addr.String(), ID: endpointID(addr), empty: make(chan struct{}), lines: &connBudget{}}
	e.Requests.onEmpty = e.close
	e.transport = newTransport(e.dialTransport, p)
	e.upgrade = e.transport
	if p == route.ProtocolH2C {
		e.upgrade = newTransport(e.dialTransport, route.ProtocolHTTP1)
	}
	return e
}

func newTransport(dial func(context.Context) (net.Conn, error), p route.Protocol) *http.Transport {
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
	case route.ProtocolH2C:
		t.Protocols.SetUnencryptedHTTP2(true)
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: upstreamPingTimeout, PingTimeout: upstreamPingTimeout}
	case route.ProtocolTLS:
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

// DialError says that no connection was made, so that nothing of the request was sent.
type DialError struct {
	Host  string
	Cause error
}

// Error names the endpoint.
func (e *DialError) Error() string {
	return fmt.Sprintf("connecting to endpoint %s: %v", e.Host, e.Cause)
}

// Unwrap gives the cause.
func (e *DialError) Unwrap() error { return e.Cause }

// connectTimeout is the key of a time that a request's context gives for connecting.
type connectTimeout struct{}

// dialTransport connects for one of the transports.
func (e *Endpoint) dialTransport(ctx context.Context) (net.Conn, error) {
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
func (e *Endpoint) connect(ctx context.Context, limit time.Duration) (*budgetConn, error) {
	if err := e.lines.take(); err != nil {
		return nil, err // no failure of the endpoint
	}
	d := &net.Dialer{Timeout: limit}
	c, err := d.DialContext(ctx, "tcp", e.Host)
	if err != nil {
		e.lines.give()
		return nil, &DialError{e.Host, err}
	}
	return &budgetConn{TCPConn: c.(*net.TCPConn), lines: e.lines}, nil
}

// AnswerTimeout is the cause of a request's end when an endpoint does not answer in time.
type AnswerTimeout struct{}

func (AnswerTimeout) Error() string { return "the endpoint did not answer in time" }
func (AnswerTimeout) Timeout() bool { return true }

// roundTrip sends req here. The caller has entered e.requests, which is left when the response body is closed. An
// endpoint that does not answer in time, after the request was sent, or does not take the next part of the request's body,
// ends it with AnswerTimeout.
func (e *Endpoint) roundTrip(req *http.Request, p *route.Policy, body *trackedBody) (*http.Response, error) {
	ctx := req.Context()
	if p.ConnectTimeout > 0 {
		ctx = context.WithValue(ctx, connectTimeout{}, p.ConnectTimeout)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	req = req.WithContext(ctx)
	req.URL.Host, req.URL.Scheme = e.Host, "http"
	if e.protocol == route.ProtocolTLS {
		req.URL.Scheme = "https"
	}
	transport := e.transport
	if req.Header.Get("Upgrade") != "" {
		transport = e.upgrade
	}
	held := &heldBody{e: e, limit: p.ReadTimeout, cancel: cancel}
	head := e.headLimit(p.ReadTimeout)
	if send := cmp.Or(p.SendTimeout, head); head > 0 || body != nil && send > 0 {
		held.timer = time.AfterFunc(cmp.Or(head, send), func() { cancel(AnswerTimeout{}) })
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
		e.Requests.Leave()
		if errors.Is(context.Cause(ctx), AnswerTimeout{}) {
			err = AnswerTimeout{}
		}
		cancel(nil)
	case resp.StatusCode == http.StatusSwitchingProtocols:
		e.Requests.Leave() // it lives as long as both ends like, whatever becomes of the endpoint
	default:
		held.ReadCloser = resp.Body
		resp.Body = held
	}
	return resp, err
}

func (e *Endpoint) headLimit(limit time.Duration) time.Duration {
	if limit == 0 && e.protocol != route.ProtocolH2C {
		return ResponseTimeout
	}
	return limit
}

// heldBody releases its endpoint when it is closed, and ends a request whose answer stops coming.
type heldBody struct {
	io.ReadCloser
	e      *Endpoint
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
	b.once.Do(b.e.Requests.Leave)
	return err
}

func (b *heldBody) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}

// Drained is closed when the endpoint has left its group and no request is under way on it.
func (e *Endpoint) Drained() <-chan struct{} { return e.empty }

// retire closes the idle connections now, and those of requests under way when they end.
func (e *Endpoint) retire() {
	e.closeIdle()
	e.Requests.shut()
}

func (e *Endpoint) close() {
	e.closeIdle()
	close(e.empty)
}

func (e *Endpoint) closeIdle() {
	e.Conns.close()
	e.transport.CloseIdleConnections()
	if e.upgrade != e.transport {
		e.upgrade.CloseIdleConnections()
	}
}

// Rest makes pick pass the endpoint over for a while.
func (e *Endpoint) Rest() { e.restFor(restAfterFailure) }

func (e *Endpoint) restFor(d time.Duration) { e.restUntil.Store(time.Now().Add(d).UnixNano()) }

func (e *Endpoint) resting() bool {
	until := e.restUntil.Load()
	return until != 0 && time.Now().UnixNano() < until
}
