package echo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	maxBytes = 1 << 30   // of /bytes/N
	maxDelay = time.Hour // of /delay/MS
	maxFrame = 1 << 20   // of a WebSocket message
)

// Reply is what / answers, as JSON.
type Reply struct {
	Pod       string      `json:"pod"`
	Node      string      `json:"node"`
	Namespace string      `json:"namespace"`
	IP        string      `json:"ip"`     // the pod's
	Client    string      `json:"client"` // ip:port as the pod sees it
	Method    string      `json:"method"`
	Host      string      `json:"host"`
	Path      string      `json:"path"` // with the query
	Protocol  string      `json:"protocol"`
	Headers   http.Header `json:"headers"`
}

func (s *Server) newHTTP() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.serveAll)
	mux.HandleFunc("/hostname", s.text(func(*http.Request) string { return s.cfg.Pod }))
	mux.HandleFunc("/clientip", s.text(func(r *http.Request) string { return r.RemoteAddr }))
	mux.HandleFunc("/echo", s.text(func(r *http.Request) string { return r.URL.Query().Get("msg") }))
	mux.HandleFunc("/status/{code}", s.serveStatus)
	mux.HandleFunc("/delay/{ms}", s.serveDelay)
	mux.HandleFunc("/bytes/{n}", s.serveBytes)
	mux.HandleFunc("/healthz", s.serveHealth)
	mux.HandleFunc("POST /healthy", s.setHealth(true))
	mux.HandleFunc("POST /unhealthy", s.setHealth(false))
	mux.HandleFunc("POST /exit", s.serveExit)
	mux.HandleFunc("/ws", s.serveWebSocket)
	rpc := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(rpc, &healthService{server: s})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           greeting(s.logged(grpcOr(rpc, s.asItCame(mux)))),
		Protocols:         protocols,
		ReadHeaderTimeout: time.Minute,
		IdleTimeout:       5 * time.Minute,
		ConnContext:       withGuest,
	}
}

// asItCame answers paths that a ServeMux would redirect, those with // or dot segments: who asks for one wants to see what
// came of it on the way.
func (s *Server) asItCame(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.EscapedPath()
		if clean := path.Clean(asked); clean != asked && (clean == "/" || clean+"/" != asked) {
			s.serveAll(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// grpcOr sends gRPC requests to rpc and all others to next.
func grpcOr(rpc *grpc.Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			rpc.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK, last: s.lastOf(r)}
		begin := time.Now()
		method, path, client := r.Method, r.URL.RequestURI(), r.RemoteAddr
		s.busy.Add(1)
		next.ServeHTTP(recorder, r)
		s.busy.Add(-1)
		s.logf("%s %s %q %s %d %s", client, method, path, r.Proto, recorder.status, time.Since(begin).Round(time.Microsecond))
	})
}

// lastOf says, when the answer is written, whether it is the connection's last. HTTP/2 has GOAWAY for that.
func (s *Server) lastOf(r *http.Request) func() bool {
	if r.ProtoMajor != 1 {
		return func() bool { return false }
	}
	return s.guests.leaving.Load
}

func (s *Server) serveAll(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	// The client may be gone by now; there is nobody to tell.
	_ = encoder.Encode(Reply{
		Pod: s.cfg.Pod, Node: s.cfg.Node, Namespace: s.cfg.Namespace, IP: s.address(r), Client: r.RemoteAddr,
		Method: r.Method, Host: r.Host, Path: r.URL.RequestURI(), Protocol: r.Proto, Headers: r.Header,
	})
}

// address is the pod's address; a pod of the host's network has none of its own, so it is the one dialled.
func (s *Server) address(r *http.Request) string {
	if s.cfg.IP.IsValid() {
		return s.cfg.IP.String()
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return ""
	}
	addr, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return ""
	}
	return addr.Addr().Unmap().String()
}

func (s *Server) text(answer func(*http.Request) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, answer(r))
	}
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "the status must be a number from 200 to 599", http.StatusBadRequest)
		return
	}
	w.WriteHeader(code)
	if code != http.StatusNoContent && code != http.StatusNotModified {
		fmt.Fprintln(w, code, http.StatusText(code))
	}
}

func (s *Server) serveDelay(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.ParseInt(r.PathValue("ms"), 10, 32)
	delay := time.Duration(ms) * time.Millisecond
	if err != nil || ms < 0 || delay > maxDelay {
		http.Error(w, "the delay must be milliseconds, at most an hour", http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(delay):
		fmt.Fprintln(w, s.cfg.Pod)
	case <-r.Context().Done():
	}
}

func (s *Server) serveBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 || n > maxBytes {
		http.Error(w, "the number of bytes must be from 0 to 1073741824", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	// An error means the client is gone.
	_, _ = io.CopyN(w, zeros{}, n)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if s.unhealthy.Load() {
		http.Error(w, "unhealthy", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *Server) setHealth(healthy bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.unhealthy.Store(!healthy)
		fmt.Fprintln(w, "healthy:", healthy)
	}
}

// serveExit ends the container with the code of the query, 1 by default.
func (s *Server) serveExit(w http.ResponseWriter, r *http.Request) {
	code := 1
	if text := r.URL.Query().Get("code"); text != "" {
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil {
			http.Error(w, "the exit code must be a number from 0 to 255", http.StatusBadRequest)
			return
		}
		code = int(n)
	}
	fmt.Fprintln(w, "exit", code)
	select {
	case s.exit <- code:
	default: // somebody was faster
	}
}

func (s *Server) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	// Any origin may connect: it is a server to try things with, and it knows no secret.
	upgrader := websocket.Upgrader{ReadBufferSize: 4096, WriteBufferSize: 4096, CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered with the reason
	}
	defer conn.Close()
	stop := context.AfterFunc(s.closing, func() { conn.Close() })
	defer stop()
	conn.SetReadLimit(maxFrame)
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil || conn.WriteMessage(kind, message) != nil {
			return
		}
	}
}
