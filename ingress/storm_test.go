package ingress

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestStorm is a day's worth of changes at once: Ingresses come and go, certificates are rotated, while clients send
// requests without pause and WebSockets talk. Nothing fails, nothing is dropped, and the memory comes back.
// SVCPLANE_STORM=N multiplies it by N; 20 is 2,000 Ingresses, 200 certificates and 500 WebSockets.
func TestStorm(t *testing.T) {
	size := 1
	if _, err := fmt.Sscan(os.Getenv("SVCPLANE_STORM"), &size); err != nil {
		size = 1
	}
	_, addr := endpointServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			echoWebSocket(w, r)
			return
		}
		fmt.Fprint(w, "ok")
	})
	w := newWorld(t, service("toad"), slice("toad", addr), toService("toad"), tlsSecret(t, "cert", false, "toad"))
	w.answers("toad", "/", 200, "ok")
	var sockets []*websocket.Conn
	for range 25 * size {
		ws, _, err := websocket.DefaultDialer.Dial("ws://"+w.plain+"/ws", http.Header{"Host": {"toad"}})
		w.must(err)
		defer ws.Close()
		sockets = append(sockets, ws)
	}
	before := heap()
	stop, sent := make(chan struct{}), atomic.Int64{}
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx := context.Background(); ; {
				select {
				case <-stop:
					return
				default:
				}
				req, err := http.NewRequestWithContext(ctx, "GET", "http://"+w.plain, nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Host = "toad"
				resp, err := http.DefaultClient.Do(req)
				if err != nil || resp.StatusCode != 200 {
					t.Errorf("%v %v", resp, err)
					return
				}
				resp.Body.Close()
				sent.Add(1)
			}
		})
	}
	w.storm(size, sockets)
	close(stop)
	clients.Wait()
	w.eventually(func() error {
		if got := w.ingress.Figure(); got != "1 routes, 0 certificates" {
			return fmt.Errorf("after the storm: %s", got)
		}
		return nil
	})
	if after := heap(); after > before+8<<20 {
		t.Errorf("the heap grew from %d to %d MiB", before>>20, after>>20)
	}
	t.Logf("%d requests and %d WebSockets through %d Ingresses and %d certificates", sent.Load(), len(sockets), 100*size, 10*size)
}

func (w *world) storm(size int, sockets []*websocket.Conn) {
	w.t.Helper()
	ctx := context.Background()
	ingresses, secrets := w.client.NetworkingV1().Ingresses("default"), w.client.CoreV1().Secrets("default")
	for i := range 100 * size {
		name := fmt.Sprintf("storm-%d", i)
		ing := anIngress(name, rule(name, path("/", "Prefix", "toad")))
		w.createIngress(ing)
		w.keepUp(i+1, 1+i+1)
		if i%10 == 0 {
			cert := tlsSecret(w.t, "cert", false, "toad")
			_, err := secrets.Update(ctx, cert, metav1.UpdateOptions{})
			w.must(err)
			ws := sockets[i%len(sockets)]
			w.must(ws.WriteMessage(websocket.TextMessage, []byte(name)))
			if _, got, err := ws.ReadMessage(); err != nil || string(got) != name {
				w.t.Fatalf("WebSocket: %q %v", got, err)
			}
		}
	}
	last := fmt.Sprintf("storm-%d", 100*size-1)
	w.answers(last, "/", 200, "ok")
	for i := range 100 * size {
		w.must(ingresses.Delete(ctx, fmt.Sprintf("storm-%d", i), metav1.DeleteOptions{}))
		w.keepUp(i+1, 1+100*size-(i+1))
	}
	for _, ws := range sockets {
		w.must(ws.WriteMessage(websocket.TextMessage, []byte("still here")))
		if _, got, err := ws.ReadMessage(); err != nil || string(got) != "still here" {
			w.t.Fatalf("WebSocket: %q %v", got, err)
		}
	}
}

// keepUp waits now and then until that many routes are in force: the fake API panics when its watchers are 100 events
// behind.
func (w *world) keepUp(changes, routes int) {
	w.t.Helper()
	if changes%25 != 0 {
		return
	}
	want := fmt.Sprintf("%d routes, 0 certificates", routes)
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
