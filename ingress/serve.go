package ingress

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"svcplane/ingress/pace"
)

// ServeHTTP routes one request and counts it.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := s.identify(r)
	rec := &recorder{ResponseWriter: w, call: c}
	defer s.finish(c, rec, r) // also when the handler is aborted
	s.serve(rec, r, c)
}

func (s *server) serve(w http.ResponseWriter, r *http.Request, c *call) {
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		answer(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here")
		return
	}
	if !validHost(textBytes(r.Host)) && (r.Host != "" || r.ProtoAtLeast(1, 1)) || r.URL.User != nil {
		answer(w, http.StatusBadRequest, "the host is malformed or missing")
		return
	}
	host := normalHost(r.Host)
	if r.TLS != nil && s.certs.Load().misdirected(r.TLS.ServerName, host) {
		answer(w, http.StatusMisdirectedRequest, "this connection was opened for another host")
		return
	}
	path, err := cleanURLPath(askedPath(r))
	if err == nil {
		err = setPath(r.URL, path)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	c.path, c.query = path.sent, r.URL.RawQuery
	if c.route, err = s.route(host, path, r); err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	if c.route == nil {
		answer(w, http.StatusNotFound, "no ingress rule matches this host and path")
		return
	}
	defer c.route.Group.requests.leave()
	if over := c.route.over; over != nil {
		if !s.pass(w, r, c, over) {
			return
		}
		defer over.limit.leave(c.client)
	}
	if c.route.guard != nil {
		if !s.pass(w, r, c, c.route.guard) {
			return
		}
		defer c.route.guard.limit.leave(c.client)
		if err := c.rewrite(r, path); err != nil {
			answer(w, http.StatusBadRequest, err.Error())
			return
		}
		c.choice = c.policy().prepare(r, c)
	}
	s.send(w, r, c)
}

// send hands the request to the endpoints of its route.
func (s *server) send(w http.ResponseWriter, r *http.Request, c *call) {
	// Of HTTP/2; strictConn measures those of HTTP/1.1. A stream of gRPC may well be silent in both directions.
	if b, ok := r.Body.(interface{ Pace(*pace.Limit) }); ok && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		b.Pace(&s.bodies)
	}
	if most := c.route.maxBody(); most > 0 && r.Body != nil && r.Body != http.NoBody {
		if r.ContentLength > most {
			answer(w, http.StatusRequestEntityTooLarge, "the request body is larger than this route allows")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, most)
	}
	if c.suits(r) {
		s.sendLean(w, r, c)
		return
	}
	if r.Header.Get("Upgrade") != "" {
		w = upgradeWriter{w}
	}
	c.route.Group.proxy.ServeHTTP(promptWriter{w}, r.WithContext(withCall(r.Context(), c)))
}

// maxBody is the size of the largest body that is passed on; 0: any is.
func (r *Route) maxBody() int64 {
	most := r.policy().MaxBody
	if r.over != nil && r.over.MaxBody > 0 && (most == 0 || r.over.MaxBody < most) {
		most = r.over.MaxBody
	}
	return most
}

// route finds the route of a request and enters its group; nil when none matches.
func (s *server) route(host string, path cleanPath, r *http.Request) (*Route, error) {
	for {
		route, err := s.table.Load().Choose(host, path)
		if route == nil {
			return nil, err
		}
		if len(route.canaries) > 0 {
			route = route.pick(r)
		}
		if route.Group.requests.enter() {
			return route, nil
		}
		// the route was removed between the two: a table without it is there already
	}
}

// pass lets a request by a guard, and counts it in its limits, or answers it: false.
func (s *server) pass(w http.ResponseWriter, r *http.Request, c *call, g *guard) bool {
	if !s.admit(w, r, c, g) {
		return false
	}
	if wait := g.limit.enter(c.client, c.began); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
		answer(w, http.StatusTooManyRequests, "too many requests from this address")
		return false
	}
	return true
}

// admit applies what a policy says before anything is sent; false when the request was answered.
func (s *server) admit(w http.ResponseWriter, r *http.Request, c *call, g *guard) bool {
	p := g.Policy
	switch {
	case len(p.Closed) > 0:
		answer(w, http.StatusServiceUnavailable, "this route is closed: it is to be protected in a way that is not possible here; its Ingress has an Event that says more")
	case !p.allows(c.client):
		answer(w, http.StatusForbidden, "this address is not allowed here")
	case p.HTTPSRedirect && c.proto == "http":
		redirect(w, httpsLocation(hostOnly(r.Host), s.httpsPort(), r.URL), http.StatusPermanentRedirect)
	case p.Redirect != nil:
		redirect(w, p.Redirect.To, p.Redirect.Code)
	case p.AppRoot != "" && c.path == "/":
		redirect(w, p.AppRoot, http.StatusFound)
	case p.CORS != nil && p.CORS.preflight(w, r):
	case p.Auth != nil && !g.users.Load().check(r):
		w.Header().Set("WWW-Authenticate", `Basic realm="`+p.Auth.Realm+`", charset="UTF-8"`)
		answer(w, http.StatusUnauthorized, "a name and password are needed here")
	default:
		c.origin = r.Header.Get("Origin")
		return true
	}
	return false
}

func redirect(w http.ResponseWriter, to string, code int) {
	w.Header().Set("Location", to)
	answer(w, code, "see "+to)
}

// hostOnly is a Host header without its port, as it was written.
func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return hostport
}

func (s *server) httpsPort() uint16 {
	if s.publicHTTPS != 0 {
		return s.publicHTTPS
	}
	_, secure := s.addrs()
	return secure.Port()
}

// rewrite puts the path to send into r.
func (c *call) rewrite(r *http.Request, path cleanPath) error {
	p := c.policy()
	if p.Rewrite == nil {
		return nil
	}
	next, err := p.Rewrite.apply(c.route.Path, path)
	if err != nil {
		return err
	}
	return setPath(r.URL, next)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	call  *call
	code  int
	bytes int64
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(code int) {
	if r.code == 0 && (code >= 200 || code == http.StatusSwitchingProtocols) {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	r.call.lag(err, slowReader)
	return n, err
}

// FlushError is for http.ResponseController.
func (r *recorder) FlushError() error {
	err := http.NewResponseController(r.ResponseWriter).Flush()
	r.call.lag(err, slowReader)
	return err
}

// clientGone is what is counted for a request whose client did not wait for the answer (nginx's convention).
const clientGone = 499

// finish counts and logs a request.
func (s *server) finish(c *call, rec *recorder, r *http.Request) {
	took := time.Since(c.began)
	if rec.code == 0 {
		rec.code = clientGone
	}
	// before policies changed it: what the client said is known by its length only
	c.asked = headSize(len(r.Method)+len(r.RequestURI)+len(r.Proto)+len(r.Host)+len("  Host: \r\n"), r.Header) + max(r.ContentLength, 0)
	c.answered = headSize(len("HTTP/1.1 200 OK"), rec.Header()) + rec.bytes
	s.count(c, rec.code, took)
	if s.log != nil && s.log.wants() {
		s.log.write(entryOf(c, r, rec, took))
	}
}

// count adds an answer to the figures of its route and endpoint.
func (s *server) count(c *call, code int, took time.Duration) {
	switch c.ended {
	case slowBody:
		s.slow.bodies.Add(1)
	case slowReader:
		s.slow.readers.Add(1)
	}
	if c.route == nil {
		s.unrouted.observe(code, &c.exchanged, took, false)
		return
	}
	if c.route.stats != nil {
		c.route.stats.observe(code, &c.exchanged, took, c.endpoint != nil)
	}
	if c.endpoint != nil {
		c.endpoint.stats.observe(code, took)
	}
}
