package ingress

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/ingress/listen"
)

// TestChangesUnderLoad rolls the endpoints of a Service, as a rolling update does, and changes routes and
// certificates, while clients send GET and POST without pause and a WebSocket talks: nothing fails.
func TestChangesUnderLoad(t *testing.T) {
	ing := toService("toad")
	ing.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"toad"}, SecretName: "cert"}}
	keep, keepAddr := endpointServer(t, echoWebSocket)
	defer keep.Close()
	w := newWorld(t, service("toad"), service("chat"), toService("chat"), slice("chat", keepAddr), ing)
	r := &roller{w: w, servers: map[netip.AddrPort]*httptest.Server{}}
	defer r.closeAll()
	for range 3 {
		r.add()
	}
	w.answers("toad", "/", 200, "")
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+w.plain, http.Header{"Host": {"chat"}})
	w.must(err)
	defer ws.Close()
	stop := make(chan struct{})
	var sent atomic.Int64
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() { loadClient(t, "http://"+w.plain, &http.Transport{}, i%2 == 0, stop, &sent) })
	}
	secrets := w.client.CoreV1().Secrets("default")
	cert := tlsSecret(t, "cert", false, "toad")
	_, err = secrets.Create(context.Background(), cert, metav1.CreateOptions{})
	w.must(err)
	for i := range 30 {
		r.add()
		r.removeOldest()
		w.updateIngress("toad", func(ing *networkingv1.Ingress) {
			ing.Spec.Rules[0].HTTP.Paths = append(ing.Spec.Rules[0].HTTP.Paths[:1], path(fmt.Sprint("/extra", i), networkingv1.PathTypePrefix, "toad:http"))
		})
		cert.Annotations = map[string]string{"turn": fmt.Sprint(i)}
		_, err := secrets.Update(context.Background(), cert, metav1.UpdateOptions{})
		w.must(err)
		w.must(ws.WriteMessage(websocket.TextMessage, []byte("still here")))
		if _, got, err := ws.ReadMessage(); err != nil || string(got) != "still here" {
			t.Fatalf("WebSocket: %q, %v", got, err)
		}
	}
	close(stop)
	clients.Wait()
	if sent.Load() < 300 {
		t.Errorf("only %d requests were sent: the test shows little", sent.Load())
	}
	t.Logf("%d requests while 30 endpoints were replaced", sent.Load())
}

// loadClient sends requests for toad until stop and reports every one that fails.
func loadClient(t *testing.T, url string, tr *http.Transport, post bool, stop chan struct{}, sent *atomic.Int64) {
	client := &http.Client{Transport: tr}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		method, payload := "GET", ""
		if post {
			method, payload = "POST", fmt.Sprint("payload", n)
		}
		req, _ := http.NewRequest(method, url+"/", strings.NewReader(payload)) // a constant URL parses
		req.Host = "toad"
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s: %v", method, err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(body) != "ok "+payload {
			t.Errorf("%s: %d %q, %v", method, resp.StatusCode, body, err)
			return
		}
		sent.Add(1)
	}
}

// roller plays the node: an endpoint is killed at once when the catalog says that nobody sends to it any more.
type roller struct {
	w       *world
	servers map[netip.AddrPort]*httptest.Server
	order   []netip.AddrPort
	next    byte
}

func (r *roller) add() {
	r.next++
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body) // what came is sent back and compared
		time.Sleep(time.Duration(len(body)%3) * time.Millisecond)
		fmt.Fprintf(w, "ok %s", body)
	}))
	// an address of its own, as a pod has: the catalog waits for addresses
	l, err := listen.Listen("test", "--", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 9, r.next}), 0))
	r.w.must(err)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	addr := addrOf(l)
	r.servers[addr] = s
	r.order = append(r.order, addr)
	_, err = r.w.client.DiscoveryV1().EndpointSlices("default").Create(context.Background(), slice("toad", addr), metav1.CreateOptions{})
	r.w.must(err)
	r.w.eventually(func() error {
		for _, route := range r.w.ingress.Routes() {
			if slices.Contains(route.Endpoints, addr) {
				return nil
			}
		}
		return fmt.Errorf("%s is not used", addr)
	})
}

func (r *roller) removeOldest() {
	addr := r.order[0]
	r.order = r.order[1:]
	name := slice("toad", addr).Name
	r.w.must(r.w.client.DiscoveryV1().EndpointSlices("default").Delete(context.Background(), name, metav1.DeleteOptions{}))
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	cat := r.w.ingress.assembly.catalog
	// Drained counts from what the catalog was told, so the deletion must have come through first.
	r.w.eventually(func() error {
		svc, _ := cat.Get(types.NamespacedName{Namespace: "default", Name: "toad"})
		for _, e := range svc.Ports[0].Endpoints {
			if e.AddrPort == addr {
				return fmt.Errorf("%s is in the catalog still", addr)
			}
		}
		return nil
	})
	r.w.must(cat.Drained(ctx, addr.Addr()))
	r.servers[addr].CloseClientConnections()
	r.servers[addr].Close()
	delete(r.servers, addr)
}

func (r *roller) closeAll() {
	for _, s := range r.servers {
		s.Close()
	}
}
