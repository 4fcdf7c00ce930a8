package ingress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestStorm is a day's worth of changes at once: Ingresses come and go, certificates are rotated, endpoints are replaced,
// while clients send requests without pause, over HTTP/1.1, HTTP/2 and a new TLS connection for each, and WebSockets
// talk. Nothing fails, nothing is dropped, each certificate is seen by clients, and the memory comes back.
// SVCPLANE_STORM=N multiplies it by N; 20 is 2,000 Ingresses, 200 certificates, 50 endpoints and 500 WebSockets.
func TestStorm(t *testing.T) {
	size := 1
	if _, err := fmt.Sscan(os.Getenv("SVCPLANE_STORM"), &size); err != nil {
		size = 1
	}
	_, addr := endpointServer(t, echoWebSocket)
	secure := toService("toad")
	secure.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"toad"}, SecretName: "cert"}}
	s := &storm{size: size, world: newWorld(t, service("toad"), secure, tlsSecret(t, "cert", false, "toad"), service("chat"), slice("chat", addr), toService("chat"))}
	s.roller = &roller{w: s.world, servers: map[netip.AddrPort]*httptest.Server{}}
	defer s.roller.closeAll()
	for range 3 {
		s.roller.add()
	}
	s.answers("toad", "/", 200, "ok ")
	s.openSockets()
	defer s.closeSockets()
	before := heap()
	stop, sent := make(chan struct{}), atomic.Int64{}
	var clients sync.WaitGroup
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "toad"}
	for i, tr := range []*http.Transport{{}, {TLSClientConfig: config.Clone()}, {TLSClientConfig: config.Clone(), ForceAttemptHTTP2: true}, {TLSClientConfig: config.Clone(), DisableKeepAlives: true}} {
		url := "https://" + s.secure
		if tr.TLSClientConfig == nil {
			url = "http://" + s.plain
		}
		clients.Go(func() { loadClient(t, url, tr, i%2 == 0, stop, &sent) })
	}
	s.rage()
	close(stop)
	clients.Wait()
	s.keepUp(0, 2)
	s.client.ClearActions()
	if after := heap(); after > before+8<<20 {
		t.Errorf("the heap grew from %d to %d MiB", before>>20, after>>20)
	} else {
		t.Logf("%d requests and %d WebSockets through %d Ingresses, %d certificates and %d endpoints; the heap: %.1f MiB before, %.1f after",
			sent.Load(), len(s.sockets), 100*size, s.rotated, s.rolled, float64(before)/(1<<20), float64(after)/(1<<20))
	}
}

type storm struct {
	*world
	size            int
	roller          *roller
	sockets         []*websocket.Conn
	rotated, rolled int
}

func (s *storm) openSockets() {
	for range 25 * s.size {
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+s.plain+"/", http.Header{"Host": {"chat"}})
		s.must(err)
		s.sockets = append(s.sockets, ws)
	}
}

func (s *storm) closeSockets() {
	for _, ws := range s.sockets {
		ws.Close()
	}
}

// rage does all the changes.
func (s *storm) rage() {
	s.t.Helper()
	n := 100 * s.size
	for i := range n {
		name := fmt.Sprintf("storm-%d", i)
		s.createIngress(anIngress(name, rule(name, path("/", "Prefix", "toad"))))
		s.keepUp(i+1, 2+i+1)
		if i%10 == 0 {
			s.rotate()
			s.talk(s.sockets[i%len(s.sockets)], name)
		}
		if i%40 == 0 {
			s.roller.add()
			s.roller.removeOldest()
			s.rolled++
		}
	}
	s.answers(fmt.Sprintf("storm-%d", n-1), "/", 200, "ok ")
	for i := range n {
		s.must(s.client.NetworkingV1().Ingresses("default").Delete(context.Background(), fmt.Sprintf("storm-%d", i), metav1.DeleteOptions{}))
		s.keepUp(i+1, 2+n-(i+1))
	}
	for _, ws := range s.sockets {
		s.talk(ws, "still here")
	}
}

func (s *storm) talk(ws *websocket.Conn, text string) {
	s.t.Helper()
	s.must(ws.WriteMessage(websocket.TextMessage, []byte(text)))
	if _, got, err := ws.ReadMessage(); err != nil || string(got) != text {
		s.t.Fatalf("WebSocket: %q %v", got, err)
	}
}

// rotate replaces the certificate and waits until clients are shown the new one.
func (s *storm) rotate() {
	s.t.Helper()
	s.rotated++
	cert := tlsSecret(s.t, "cert", false, "toad")
	_, err := s.client.CoreV1().Secrets("default").Update(context.Background(), cert, metav1.UpdateOptions{})
	s.must(err)
	block, _ := pem.Decode(cert.Data[corev1.TLSCertKey])
	want, err := x509.ParseCertificate(block.Bytes)
	s.must(err)
	s.eventually(func() error {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", s.secure, &tls.Config{ServerName: "toad", InsecureSkipVerify: true})
		s.must(err)
		defer c.Close()
		if got := c.ConnectionState().PeerCertificates[0]; !got.Equal(want) {
			return fmt.Errorf("certificate %d is shown, want %d", got.SerialNumber, want.SerialNumber)
		}
		return nil
	})
}

// keepUp waits now and then until that many routes are in force: the fake API panics when its watchers are 100 events
// behind.
func (w *world) keepUp(changes, routes int) {
	w.t.Helper()
	if changes%25 != 0 {
		return
	}
	want := fmt.Sprintf("%d routes, 1 certificates", routes)
	w.eventually(func() error {
		if got := w.ingress.Figure(); got != want {
			return fmt.Errorf("%s, want %s", got, want)
		}
		return nil
	})
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
