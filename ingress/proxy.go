package ingress

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
)

// newProxy makes the handler that sends requests, whose path is clean, through group.
func newProxy(group *Group) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     group,
		FlushInterval: -1, // what an endpoint says goes on at once: streams and server-sent events
		BufferPool:    copyBuffers,
		ErrorHandler:  answerFailure,
		ErrorLog:      quietLog,
	}
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
// earlier proxies is replaced, not extended: nobody in front of us is trusted to say it.
func rewrite(r *httputil.ProxyRequest) {
	out := r.Out.Header
	for name := range out {
		if strings.HasPrefix(name, "X-Forwarded-") || strings.IndexByte(name, '_') >= 0 {
			// Frameworks that read X_Forwarded_For as X-Forwarded-For would be fooled by an underscore.
			delete(out, name)
		}
	}
	r.SetXForwarded()
	if client := out.Get("X-Forwarded-For"); client != "" {
		out.Set("X-Real-Ip", client)
	} else {
		out.Del("X-Real-Ip")
	}
	if local, ok := r.In.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if _, port, err := net.SplitHostPort(local.String()); err == nil {
			out.Set("X-Forwarded-Port", port)
		}
	}
	// Only WebSocket may switch protocols: an upgrade to h2c would open a tunnel past the routing table.
	out.Del("Http2-Settings")
	if !isWebSocket(out) {
		out.Del("Upgrade")
		out.Del("Connection")
	}
	// ReverseProxy drops what it cannot parse of a query; an endpoint may well understand it.
	r.Out.URL.RawQuery = cleanQuery(r.In.URL.RawQuery)
}

func isWebSocket(h http.Header) bool { return strings.EqualFold(h.Get("Upgrade"), "websocket") }

// setPath makes u send the path p and nothing else: both fields are set so that u.EscapedPath is p.sent.
func setPath(u *url.URL, p cleanPath) error {
	path, err := url.PathUnescape(p.sent)
	if err != nil {
		return errPathEscape
	}
	u.Path, u.RawPath, u.Opaque = path, p.sent, ""
	return nil
}

// answerFailure answers a request that got no response from an endpoint.
func answerFailure(w http.ResponseWriter, req *http.Request, err error) {
	var client *clientError
	switch {
	case errors.As(err, &client):
		if errors.Is(err, context.Canceled) {
			panic(http.ErrAbortHandler) // nobody is there to read an answer
		}
		if isTimeout(err) {
			answer(w, http.StatusRequestTimeout, "the request body did not come in time")
			return
		}
		answer(w, http.StatusBadRequest, "the request body is malformed or was cut off")
	case errors.Is(err, errNoEndpoint):
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusServiceUnavailable, "no endpoint of the service is ready")
	case isTimeout(err):
		klog.V(2).InfoS("endpoint did not answer in time", "host", req.Host, "path", req.URL.Path, "err", err)
		answer(w, http.StatusGatewayTimeout, "the service did not answer in time")
	default:
		klog.V(2).InfoS("endpoint failed", "host", req.Host, "path", req.URL.Path, "err", err)
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
