package serve

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	"k8s.io/klog/v2"

	"svcplane/ingress/route"
	"svcplane/ingress/upstream"
)

// newFallback makes the handler that sends requests, whose path is clean, to the group of their call. It wants a
// promptWriter.
func newFallback() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      toGroup{},
		ModifyResponse: finishResponse,
		BufferPool:     copyBuffers,
		ErrorHandler:   answerFailure,
		ErrorLog:       quietLog,
	}
}

// toGroup sends requests to the group that their call has entered.
type toGroup struct{}

func (toGroup) RoundTrip(req *http.Request) (*http.Response, error) {
	c := callOf(req.Context())
	return c.group.RoundTrip(req, &c.attempt)
}

var copyBuffers = &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

// bufferPool keeps the buffers that bodies are copied through.
type bufferPool struct{ sync.Pool }

func (p *bufferPool) Get() []byte  { return p.Pool.Get().(*[32 << 10]byte)[:] }
func (p *bufferPool) Put(b []byte) { p.Pool.Put((*[32 << 10]byte)(b)) }

// quietLog takes what net/http has to say about clients that go away and handshakes that fail: on an open network
// that is no news.
var quietLog = klogAt(4)

// rewrite prepares the request for an endpoint. Hop-by-hop headers are gone already. What the client claims about
// earlier proxies counts only if it comes from a trusted one.
func rewrite(r *httputil.ProxyRequest) {
	out := r.Out.Header
	for name := range out {
		if strings.HasPrefix(name, "X-Forwarded-") || name == "Forwarded" || name == "X-Real-Ip" || name == "Proxy" || strings.IndexByte(name, '_') >= 0 {
			// Frameworks that read X_Forwarded_For as X-Forwarded-For would be fooled by an underscore, CGI programs
			// by a Proxy header, which becomes HTTP_PROXY.
			delete(out, name)
		}
	}
	c := callOf(r.In.Context())
	c.forward(out, r.In.Host, localPort(r.In))
	// Only WebSocket may switch protocols: an upgrade to h2c would open a tunnel past the routing table.
	out.Del("Http2-Settings")
	if !isWebSocket(out) {
		out.Del("Upgrade")
		out.Del("Connection")
	}
	// ReverseProxy drops what it cannot parse of a query; an endpoint may well understand it.
	r.Out.URL.RawQuery = route.CleanQuery(r.In.URL.RawQuery)
	c.plan().EditRequest(out, c.decision)
	r.Out.Host = c.decision.Host
}

// localPort is the port that the client came to.
func localPort(r *http.Request) string {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if _, port, err := net.SplitHostPort(local.String()); err == nil {
			return port
		}
	}
	return ""
}

// finishResponse adds to an endpoint's answer what the policy of its route wants.
func finishResponse(resp *http.Response) error {
	callOf(resp.Request.Context()).finishHeader(resp.Header)
	return nil
}

// finishHeader adds to the head of an answer what the policy of its route wants.
func (c *call) finishHeader(h route.Headers) {
	if plan := c.plan(); plan != nil {
		id := uint64(0)
		if c.attempt.Endpoint != nil {
			id = c.attempt.Endpoint.ID
		}
		plan.EditAnswer(h, c.decision, id)
	}
}

func isWebSocket(h http.Header) bool { return strings.EqualFold(h.Get("Upgrade"), "websocket") }

// setPath makes u send the path p and nothing else: both fields are set so that u.EscapedPath is p.Sent.
func setPath(u *url.URL, p route.Path) error {
	path, err := url.PathUnescape(p.Sent)
	if err != nil {
		return route.ErrPathEscape
	}
	u.Path, u.RawPath, u.Opaque = path, p.Sent, ""
	return nil
}

// answerFailure answers a request that got no response from an endpoint.
func answerFailure(w http.ResponseWriter, req *http.Request, err error) {
	var client *upstream.ClientError
	c := callOf(req.Context())
	switch {
	case errors.As(err, &client):
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			write(w, route.TooLarge)
			return
		}
		if errors.Is(err, context.Canceled) {
			c.lag(err, slowReader)
			panic(http.ErrAbortHandler) // nobody is there to read an answer
		}
		if upstream.IsTimeout(err) {
			c.lag(err, slowBody)
			answer(w, http.StatusRequestTimeout, "the request body did not come in time")
			return
		}
		answer(w, http.StatusBadRequest, "the request body is malformed or was cut off")
	case errors.Is(err, upstream.ErrNoEndpoint):
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusServiceUnavailable, "no endpoint of the service is ready")
	case errors.Is(err, upstream.ErrTooManyConns):
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusServiceUnavailable, "too many connections")
	case upstream.IsTimeout(err):
		klog.V(2).InfoS("endpoint did not answer in time", "host", req.Host, "path", req.URL.EscapedPath(), "err", oneLine(err))
		answer(w, http.StatusGatewayTimeout, "the service did not answer in time")
	default:
		klog.V(2).InfoS("endpoint failed", "host", req.Host, "path", req.URL.EscapedPath(), "err", oneLine(err))
		answer(w, http.StatusBadGateway, "the service failed to answer")
	}
}

// answer writes a short text of ours.
func answer(w http.ResponseWriter, code int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text + "\n")) // the client may be gone: nothing to tell anybody
}

// promptWriter passes on at once what an endpoint says: streams and server-sent events. ReverseProxy's own way of that
// sends the head of an answer of any length before it looks for a body, so that an answer of gRPC that is a head and
// nothing else (RFC 9113 section 8.1 allows it, "Trailers-Only") would sometimes get an empty body, and be refused.
type promptWriter struct{ http.ResponseWriter }

func (w promptWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w promptWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	if err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	return n, err
}

// upgradeWriter stops the checks of HTTP/1.1 on a connection that is about to speak something else.
type upgradeWriter struct{ http.ResponseWriter }

func (w upgradeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if s, ok := c.(interface{ passRaw() }); ok {
		s.passRaw()
	}
	return c, rw, err
}
