package ingress

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// protocol is what an endpoint speaks, told by the port's appProtocol.
type protocol string

const (
	protocolHTTP1 protocol = "http/1.1"
	protocolH2C   protocol = "h2c"
	protocolTLS   protocol = "tls"
)

// protocolOf maps appProtocol: the names of KEP-3726 (kubernetes.io/h2c, /ws, /wss), IANA's service names, and
// grpc. What is unknown is plain HTTP/1.1, as without the field.
func protocolOf(appProtocol string) protocol {
	switch appProtocol {
	case "kubernetes.io/h2c", "h2c", "grpc":
		return protocolH2C
	case "https", "HTTPS", "kubernetes.io/wss", "wss", "grpcs":
		return protocolTLS
	}
	return protocolHTTP1
}

const (
	dialTimeout         = 3 * time.Second
	idleConnTimeout     = 60 * time.Second
	idleConnsPerHost    = 128
	responseTimeout     = 60 * time.Second // to the head of the response, not for streams over h2c
	maxResponseHead     = 256 << 10
	upstreamPingTimeout = 15 * time.Second
)

// endpoint is one address with its own connection pool, so that its connections can be closed when it goes.
type endpoint struct {
	addr      netip.AddrPort
	protocol  protocol
	host      string // addr as text
	transport *http.Transport
	upgrade   *http.Transport // for requests that switch protocols, which only HTTP/1.1 can

	requests  gate          // those under way
	drained   chan struct{} // closed when retired and no request is under way
	restUntil atomic.Int64  // unix nanoseconds
}

func newEndpoint(addr netip.AddrPort, p protocol) *endpoint {
	e := &endpoint{addr: addr, protocol: p, host: addr.String(), drained: make(chan struct{})}
	e.requests.onEmpty = e.close
	e.transport = newTransport(e.host, p)
	e.upgrade = e.transport
	if p == protocolH2C {
		e.upgrade = newTransport(e.host, protocolHTTP1)
	}
	return e
}

func newTransport(host string, p protocol) *http.Transport {
	t := &http.Transport{
		DialContext:            dialer(host),
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		ResponseHeaderTimeout:  responseTimeout,
		ExpectContinueTimeout:  time.Second,
		TLSHandshakeTimeout:    dialTimeout,
		MaxResponseHeaderBytes: maxResponseHead,
		Protocols:              new(http.Protocols),
	}
	switch p {
	case protocolH2C:
		t.Protocols.SetUnencryptedHTTP2(true)
		t.ResponseHeaderTimeout = 0
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: upstreamPingTimeout, PingTimeout: upstreamPingTimeout}
	case protocolTLS:
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

func dialer(host string) func(context.Context, string, string) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := d.DialContext(ctx, "tcp", host)
		if err != nil {
			return nil, &dialError{host, err}
		}
		return c, nil
	}
}

// roundTrip sends req here. The caller has entered e.requests, which is left when the response body is closed.
func (e *endpoint) roundTrip(req *http.Request) (*http.Response, error) {
	req.URL.Host, req.URL.Scheme = e.host, "http"
	if e.protocol == protocolTLS {
		req.URL.Scheme = "https"
	}
	transport := e.transport
	if req.Header.Get("Upgrade") != "" {
		transport = e.upgrade
	}
	resp, err := transport.RoundTrip(req)
	switch {
	case err != nil:
		e.requests.leave()
	case resp.StatusCode == http.StatusSwitchingProtocols:
		e.requests.leave() // it lives as long as both ends like, whatever becomes of the endpoint
	default:
		resp.Body = &heldBody{ReadCloser: resp.Body, e: e}
	}
	return resp, err
}

// heldBody releases its endpoint when it is closed.
type heldBody struct {
	io.ReadCloser
	e    *endpoint
	once sync.Once
}

func (b *heldBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.e.requests.leave)
	return err
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
	e.transport.CloseIdleConnections()
	if e.upgrade != e.transport {
		e.upgrade.CloseIdleConnections()
	}
}

// rest makes pick pass the endpoint over for a while.
func (e *endpoint) rest() { e.restUntil.Store(time.Now().Add(restAfterFailure).UnixNano()) }

func (e *endpoint) resting() bool {
	until := e.restUntil.Load()
	return until != 0 && time.Now().UnixNano() < until
}
