package serve

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"k8s.io/klog/v2"
)

// LogFormat is how the access log is written.
type LogFormat string

// The formats of the access log.
const (
	LogJSON     LogFormat = "json"     // one object per line
	LogCombined LogFormat = "combined" // Apache's and nginx's
)

const (
	logFlushEvery = time.Second
	logFlushAt    = 32 << 10
	logKeep       = 1 << 20 // more than that is dropped while the disk or the reader does not follow
)

// logEntry is one request as the access log tells it.
type logEntry struct {
	Time     time.Time `json:"time"`
	Client   string    `json:"client"`
	Method   string    `json:"method"`
	Host     string    `json:"host"`
	Path     string    `json:"path"`
	Query    string    `json:"query,omitempty"`
	Proto    string    `json:"proto"`
	Scheme   string    `json:"scheme"`
	Code     int       `json:"code"`
	Bytes    int64     `json:"bytes"`
	Seconds  float64   `json:"seconds"`
	Ended    string    `json:"ended,omitempty"` // slowBody or slowReader
	Route    string    `json:"route,omitempty"` // namespace/name of the Ingress
	Service  string    `json:"service,omitempty"`
	Endpoint string    `json:"endpoint,omitempty"`
	Agent    string    `json:"agent,omitempty"`
	Referer  string    `json:"referer,omitempty"`
	Trace    string    `json:"trace,omitempty"` // trace id of the request's traceparent (W3C Trace Context)
}

func entryOf(c *call, r *http.Request, rec *recorder, took time.Duration) logEntry {
	e := logEntry{
		Time: c.began, Client: c.client.String(), Method: r.Method, Host: r.Host, Path: cmp.Or(c.path, r.URL.EscapedPath()), Query: c.query,
		Proto: r.Proto, Scheme: c.proto, Code: rec.code, Bytes: rec.bytes, Seconds: took.Seconds(),
		Agent: r.UserAgent(), Referer: r.Referer(), Trace: traceID(r.Header.Get("Traceparent")),
	}
	e.place(c)
	return e
}

// place says which route and endpoint a request took, and how it ended.
func (e *logEntry) place(c *call) {
	e.Ended = c.ended
	if c.route != nil {
		e.Route, e.Service = c.route.Origin.String(), c.route.Target()
	}
	if c.group != nil {
		e.Service = c.group.Key.String()
	}
	if c.attempt.Endpoint != nil {
		e.Endpoint = c.attempt.Endpoint.Host
	}
}

// traceID is the second field of a traceparent; empty if it is not one.
func traceID(parent string) string {
	fields := strings.Split(parent, "-")
	if len(fields) < 4 || len(fields[1]) != 32 {
		return ""
	}
	return fields[1]
}

// accessLog writes entries in the background, so that a slow disk slows no request. It is safe for concurrent use.
type accessLog struct {
	out    io.Writer
	format LogFormat
	sample float64 // 0 to 1

	mu      sync.Mutex
	buf     bytes.Buffer
	dropped int
	wake    chan struct{}
}

func newAccessLog(out io.Writer, format LogFormat, sample float64) (*accessLog, error) {
	if format != LogJSON && format != LogCombined {
		return nil, fmt.Errorf("access log format %q: must be %s or %s", format, LogJSON, LogCombined)
	}
	if sample <= 0 || sample > 1 {
		return nil, fmt.Errorf("access log sample %v: must be above 0 and at most 1, the share of requests that are logged", sample)
	}
	return &accessLog{out: out, format: format, sample: sample, wake: make(chan struct{}, 1)}, nil
}

// wants says whether the next request is in the sample.
func (l *accessLog) wants() bool { return l.sample >= 1 || rand.Float64() < l.sample }

func (l *accessLog) write(e logEntry) {
	var line []byte
	if l.format == LogCombined {
		line = e.combined()
	} else {
		line, _ = json.Marshal(e) // strings and numbers do not fail
		line = append(escapeUnseen(line), '\n')
	}
	l.mu.Lock()
	if l.buf.Len() > logKeep {
		l.dropped++
	} else {
		l.buf.Write(line)
	}
	full := l.buf.Len() > logFlushAt
	l.mu.Unlock()
	if full {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// escapeUnseen escapes what JSON leaves as it is and a terminal would act on or not show: DEL, C1 controls, marks of
// direction, ...
func escapeUnseen(line []byte) []byte {
	seen := func(c byte) bool { return c < 0x7f }
	i := 0
	for i < len(line) && seen(line[i]) {
		i++
	}
	if i == len(line) {
		return line
	}
	out := bytes.Clone(line[:i])
	for _, r := range string(line[i:]) {
		switch {
		case unicode.IsPrint(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// combined is Apache's combined format. Quoting keeps a client from writing lines of its own.
func (e *logEntry) combined() []byte {
	target := e.Path
	if e.Query != "" {
		target += "?" + e.Query
	}
	return fmt.Appendf(nil, "%s - - [%s] %q %d %d %q %q\n", e.Client, e.Time.Format("02/Jan/2006:15:04:05 -0700"),
		e.Method+" "+target+" "+e.Proto, e.Code, e.Bytes, cmp.Or(e.Referer, "-"), cmp.Or(e.Agent, "-"))
}

// run writes until ctx ends, and what is left then.
func (l *accessLog) run(ctx context.Context) {
	tick := time.NewTicker(logFlushEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-l.wake:
		case <-ctx.Done():
		}
		l.flush()
	}
}

func (l *accessLog) flush() {
	l.mu.Lock()
	text := bytes.Clone(l.buf.Bytes())
	l.buf.Reset()
	dropped := l.dropped
	l.dropped = 0
	l.mu.Unlock()
	if len(text) == 0 {
		return
	}
	if _, err := l.out.Write(text); err != nil || dropped > 0 {
		klog.ErrorS(err, "The access log lost lines: its file or reader does not follow", "dropped", dropped)
	}
}
