package serve

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"svcplane/ingress/http1"
	"svcplane/ingress/pace"
	"svcplane/ingress/route"
)

// askedPath is the path of a request: "/" also if the whole URL is asked for and has none (RFC 9110 section 4.2.3), but for
// OPTIONS, which is about the server then.
func askedPath(r *http.Request) string {
	path := route.EscapedPath(r.URL)
	if path == "" && r.URL.Host != "" && r.Method != http.MethodOptions {
		return "/"
	}
	return path
}

// ServeHTTP routes one request and counts it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := s.identify(r)
	rec := &recorder{ResponseWriter: w, call: c}
	defer s.finish(c, rec, r) // also when the handler is aborted
	s.serve(rec, r, c)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, c *call) {
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		answer(w, http.StatusMethodNotAllowed, r.Method+" is not allowed here")
		return
	}
	if !http1.ValidHost(http1.Bytes(r.Host)) && (r.Host != "" || r.ProtoAtLeast(1, 1)) || r.URL.User != nil {
		answer(w, http.StatusBadRequest, "the host is malformed or missing")
		return
	}
	host := route.Host(r.Host)
	if r.TLS != nil && s.certs.Load().Misdirected(r.TLS.ServerName, host) {
		answer(w, http.StatusMisdirectedRequest, "this connection was opened for another host")
		return
	}
	path, err := route.CleanPath(askedPath(r))
	if err == nil {
		err = setPath(r.URL, path)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	c.path, c.query = path.Sent, r.URL.RawQuery
	v := httpView{r}
	if err := s.route(listenerOf(r.Context()), host, path, v, c); err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	if c.route == nil {
		answer(w, http.StatusNotFound, "no ingress rule matches this host and path")
		return
	}
	defer c.group.Requests.Leave()
	c.decision = &route.Decision{}
	route.Decide(&route.Request{View: v, Client: c.client, Scheme: c.proto, Host: r.Host, Path: path, RawQuery: c.query, Length: r.ContentLength,
		HTTPSPort: s.httpsPort(), Place: c.route.Path}, c.route.over.plan(), c.plan(), c.decision)
	if a := c.decision.Answer; a != nil {
		write(w, a)
		return
	}
	for _, g := range [...]*Guard{c.route.over, c.route.guard} {
		if g == nil {
			continue
		}
		if wait := g.limit.enter(c.client, c.began); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
			answer(w, http.StatusTooManyRequests, "too many requests from this address")
			return
		}
		defer g.limit.leave(c.client)
	}
	if err := setPath(r.URL, c.decision.Send); err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	s.send(w, r, c)
}

// httpView lets a policy look at a request of net/http.
type httpView struct{ r *http.Request }

func (v httpView) Method() string            { return v.r.Method }
func (v httpView) Header(name string) string { return v.r.Header.Get(name) }
func (v httpView) Query(name string) string  { return v.r.URL.Query().Get(name) }

func (v httpView) Cookie(name string) string {
	if cookie, err := v.r.Cookie(name); err == nil {
		return cookie.Value
	}
	return ""
}

// write sends an answer of ours.
func write(w http.ResponseWriter, a *route.Answer) {
	for _, f := range a.Fields {
		w.Header().Add(f.Name, f.Value)
	}
	if a.Text == "" {
		w.WriteHeader(a.Code)
		return
	}
	answer(w, a.Code, a.Text)
}

// send hands the request to the endpoints of its route.
func (s *Server) send(w http.ResponseWriter, r *http.Request, c *call) {
	// Of HTTP/2; strictConn measures those of HTTP/1.1. A stream of gRPC may well be silent in both directions.
	if b, ok := r.Body.(interface{ Pace(*pace.Limit) }); ok && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		b.Pace(&s.bodies)
	}
	if most := c.decision.MaxBody; most > 0 && r.Body != nil && r.Body != http.NoBody {
		r.Body = http.MaxBytesReader(w, r.Body, most)
	}
	c.attempt.Choice, c.attempt.Policy = c.decision.Choice, c.route.policy()
	if c.suits(r) {
		s.sendByHandler(w, r, c)
		return
	}
	if r.Header.Get("Upgrade") != "" {
		w = upgradeWriter{w}
	}
	s.fallback.ServeHTTP(promptWriter{w}, r.WithContext(withCall(r.Context(), c)))
}

// route finds the route of a request and enters a group of it; there is none when nothing matches.
func (s *Server) route(l *listener, host string, path route.Path, v route.View, c *call) error {
	for {
		r, err := l.table.Load().Choose(host, path, v, AsStrict)
		if r == nil {
			return err
		}
		r = r.choose(v)
		if g := r.group(); g.Requests.Enter() {
			c.route, c.group = r, g
			return nil
		}
		// the route was removed between the two: a table without it is there already
	}
}

func (s *Server) httpsPort() uint16 {
	if s.publicHTTPS != 0 {
		return s.publicHTTPS
	}
	_, secure := s.Addrs()
	return secure.Port()
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
func (s *Server) finish(c *call, rec *recorder, r *http.Request) {
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
func (s *Server) count(c *call, code int, took time.Duration) {
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
		c.route.stats.observe(code, &c.exchanged, took, c.attempt.Endpoint != nil)
	}
	if e := c.attempt.Endpoint; e != nil {
		e.Stats.Observe(code, took)
	}
}
