package echo

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// lines collects the log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// freePort gives a port that was free a moment ago for TCP and UDP.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if p, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", port)); err == nil {
			p.Close()
			return uint16(port)
		}
	}
	t.Fatal("no port is free for both TCP and UDP")
	return 0
}

type running struct {
	addr string
	log  *lines
	stop func(grace time.Duration) (code int)
	*Server
}

func start(t *testing.T) *running {
	t.Helper()
	port := freePort(t)
	r := &running{addr: fmt.Sprintf("127.0.0.1:%d", port), log: &lines{}}
	r.Server = New(Config{Pod: "pod-1", Namespace: "ns", Node: "node", IP: netip.MustParseAddr("10.1.2.3"), Log: r.log,
		Ports: []Port{{port, "TCP"}, {port, "UDP"}}})
	if err := r.Listen(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	grace := time.Second
	code := make(chan int, 1)
	go func() { code <- r.Run(ctx, func() time.Duration { return grace }) }()
	stopped := sync.OnceValue(func() int { cancel(); return <-code })
	r.stop = func(g time.Duration) int { grace = g; return stopped() }
	t.Cleanup(func() { stopped() })
	return r
}

func (r *running) do(t *testing.T, method, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+r.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestHTTPEndpoints(t *testing.T) {
	r := start(t)
	for _, c := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/hostname", 200, "pod-1\n"},
		{"GET", "/echo?msg=hello+you", 200, "hello you\n"},
		{"GET", "/status/503", 503, "503 Service Unavailable\n"},
		{"GET", "/status/204", 204, ""},
		{"GET", "/status/99", 400, "the status must be a number from 200 to 599\n"},
		{"GET", "/delay/10", 200, "pod-1\n"},
		{"GET", "/delay/-1", 400, "the delay must be milliseconds, at most an hour\n"},
		{"GET", "/bytes/5", 200, "\x00\x00\x00\x00\x00"},
		{"GET", "/bytes/99999999999", 400, "the number of bytes must be from 0 to 1073741824\n"},
		{"GET", "/healthz", 200, "ok\n"},
		{"POST", "/unhealthy", 200, "healthy: false\n"},
		{"GET", "/healthz", 503, "unhealthy\n"},
		{"POST", "/healthy", 200, "healthy: true\n"},
		{"GET", "/healthz", 200, "ok\n"},
		{"POST", "/exit?code=300", 400, "the exit code must be a number from 0 to 255\n"},
	} {
		code, body := r.do(t, c.method, c.path)
		if code != c.code || body != c.body {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, code, body, c.code, c.body)
		}
	}
	if _, body := r.do(t, "GET", "/clientip"); !strings.HasPrefix(body, "127.0.0.1:") {
		t.Errorf("/clientip: %q", body)
	}
	if log := r.log.String(); strings.Count(log, "\n") != 16 || !strings.Contains(log, `GET "/status/503" HTTP/1.1 503`) {
		t.Errorf("the log does not have one line for each of 16 requests:\n%s", log)
	}
}

// TestPathsAsTheyCame: whoever asks for such a path wants to see it, and not a redirect to another one.
func TestPathsAsTheyCame(t *testing.T) {
	r := start(t)
	for _, path := range []string{"//", "//bucket//key", "/a/./b", "/a/../hostname", "/x//", "/.", "/a%2f%2fb", "/hostname/"} {
		code, body := r.do(t, "GET", path)
		var reply Reply
		if err := json.Unmarshal([]byte(body), &reply); code != 200 || err != nil || reply.Path != path {
			t.Errorf("GET %s: %d %q, %v", path, code, reply.Path, err)
		}
	}
	if code, body := r.do(t, "GET", "/hostname"); code != 200 || body != "pod-1\n" {
		t.Errorf("GET /hostname: %d %q", code, body)
	}
}

func TestReplyIsTheContract(t *testing.T) {
	r := start(t)
	_, body := r.do(t, "PUT", "/any/path?x=y")
	var reply map[string]any
	if err := json.Unmarshal([]byte(body), &reply); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"pod": "pod-1", "node": "node", "namespace": "ns", "ip": "10.1.2.3", "method": "PUT", "host": r.addr, "path": "/any/path?x=y",
	} {
		if reply[key] != want {
			t.Errorf("%s is %v, want %v", key, reply[key], want)
		}
	}
	if headers, ok := reply["headers"].(map[string]any); !ok || headers["User-Agent"] == nil {
		t.Errorf("headers are %v", reply["headers"])
	}
	if client, ok := reply["client"].(string); !ok || !strings.HasPrefix(client, "127.0.0.1:") {
		t.Errorf("client is %v", reply["client"])
	}
}

func TestH2C(t *testing.T) {
	r := start(t)
	client := &http.Client{Transport: &http2.Transport{AllowHTTP: true, DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}}}
	response, err := client.Get("http://" + r.addr + "/hostname")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.ProtoMajor != 2 || string(body) != "pod-1\n" {
		t.Errorf("HTTP/%d %q %v", response.ProtoMajor, body, err)
	}
}

func TestGRPCHealth(t *testing.T) {
	r := start(t)
	conn, err := grpc.NewClient(r.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	health := grpc_health_v1.NewHealthClient(conn)
	watch, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING} {
		if got, err := watch.Recv(); err != nil || got.GetStatus() != want {
			t.Errorf("watch says %v %v, want %v", got, err, want)
		}
		if got, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil || got.GetStatus() != want {
			t.Errorf("check says %v %v, want %v", got, err, want)
		}
		r.do(t, "POST", "/unhealthy")
	}
	if _, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "other"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v", err)
	}
}

func TestWebSocket(t *testing.T) {
	r := start(t)
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+r.addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
		if err := conn.WriteMessage(kind, []byte("ping")); err != nil {
			t.Fatal(err)
		}
		if got, text, err := conn.ReadMessage(); err != nil || got != kind || string(text) != "ping" {
			t.Errorf("it answers %d %q %v", got, text, err)
		}
	}
	// An open WebSocket must not hold the container's end up.
	begin := time.Now()
	if code := r.stop(10 * time.Second); code != 0 || time.Since(begin) > 5*time.Second {
		t.Errorf("it stopped with %d after %s", code, time.Since(begin))
	}
	if _, _, err := conn.ReadMessage(); err == nil {
		t.Error("the WebSocket outlives its container")
	}
}

func TestDatagrams(t *testing.T) {
	r := start(t)
	conn, err := net.Dial("udp4", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for send, want := range map[string]string{"hostname\n": "pod-1\n", "clientip": conn.LocalAddr().String() + "\n", "anything else": "anything else", "": ""} {
		if _, err := conn.Write([]byte(send)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := conn.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("%q is answered with %q %v, want %q", send, buf[:n], err, want)
		}
	}
}

func TestRequestsUnderWayFinish(t *testing.T) {
	r := start(t)
	answer := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + r.addr + "/delay/500")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	waitBusy(t, r)
	if code := r.stop(10 * time.Second); code != 0 {
		t.Errorf("it stopped with %d, want 0", code)
	}
	if got := <-answer; got != "pod-1\n" {
		t.Errorf("the request under way got %q", got)
	}
}

func TestRequestsThatTakeTooLongAreCutOff(t *testing.T) {
	r := start(t)
	go func() {
		if response, err := http.Get("http://" + r.addr + "/delay/60000"); err == nil {
			response.Body.Close()
		}
	}()
	waitBusy(t, r)
	begin := time.Now()
	if code := r.stop(100 * time.Millisecond); code != 137 || time.Since(begin) > 5*time.Second {
		t.Errorf("it stopped with %d after %s, want 137", code, time.Since(begin))
	}
}

// waitBusy waits until a connection is there whose request is under way.
func waitBusy(t *testing.T, r *running) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for r.busy.Load() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no request arrived")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestTakenPortAndUnknownProtocol(t *testing.T) {
	r := start(t)
	second := New(Config{Pod: "pod-1", Namespace: "ns", Ports: r.cfg.Ports, Log: io.Discard})
	if err := second.Listen(context.Background()); err == nil || !strings.Contains(err.Error(), "another container of the pod") {
		t.Errorf("a taken port: %v", err)
	}
	sctp := New(Config{Ports: []Port{{freePort(t), "TCP"}, {132, "SCTP"}}, Log: io.Discard})
	if err := sctp.Listen(context.Background()); err == nil || !strings.Contains(err.Error(), "132/SCTP") {
		t.Errorf("SCTP: %v", err)
	}
	if conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", sctp.cfg.Ports[0].Number)); err == nil {
		conn.Close()
		t.Error("a socket of a failed Listen is still open")
	}
}
