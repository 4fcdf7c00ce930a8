package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"svcplane/inprocess"
	"svcplane/node/access"
)

// server is the kubelet's HTTPS endpoint: logs, exec, attach and port-forward for the API server, and metrics, on the node's
// address, and on connections that never leave the process (Node.Dial).
type server struct {
	n      *Node
	http   *http.Server
	tls    *tls.Config
	inside *inprocess.Listener

	mu    sync.Mutex
	fail  func(error) // nil: it does not run
	at    netip.AddrPort
	outer net.Listener
	wg    sync.WaitGroup
}

// apiServerClient is the common name of the API server's client certificate (kubeadm's layout).
const apiServerClient = "kube-apiserver-kubelet-client"

func newKubeletServer(n *Node) (*server, error) {
	trusted := n.cfg.ServerClients
	if len(trusted) == 0 {
		trusted = []string{apiServerClient}
	}
	reviewer := n.cfg.Reviewer
	if reviewer == nil {
		reviewer = n.cfg.Client
	}
	guard, err := access.New(access.Config{Client: reviewer, Node: n.cfg.Name, CAs: n.cfg.ClientCAs, Trusted: trusted})
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.cfg.Name, err)
	}
	s := &server{n: n, inside: inprocess.Listen(nil), at: n.cfg.ServerAddr}
	s.tls = &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.serving.Load(), nil },
		ClientAuth:     tls.RequestClientCert, // checked per request, for an answer in HTTP
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"}, // upgrades to SPDY and WebSocket need it
	}
	s.http = &http.Server{
		Handler:           guard.Handler(s.routes()),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(quiet{}, "", 0),
	}
	return s, nil
}

// quiet drops what the HTTP server writes about connections that were not meant for it.
type quiet struct{}

func (quiet) Write(p []byte) (int, error) {
	klog.V(4).InfoS("Kubelet server", "message", string(p))
	return len(p), nil
}

// begin takes the port, so that a taken one fails the start and not the first `kubectl logs`, and answers until end.
func (s *server) begin(ctx context.Context, fail func(error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	s.fail = fail
	s.serve(s.inside)
	return s.open()
}

func (s *server) end() {
	s.mu.Lock()
	s.fail = nil
	s.mu.Unlock()
	s.http.Close()
	s.wg.Wait()
}

// move answers at another address of the node. What goes on at the one before ends with it.
func (s *server) move(to netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := netip.AddrPortFrom(to, s.at.Port()); at != s.at || s.outer == nil {
		s.at = at
		if s.outer != nil {
			s.outer.Close()
			s.outer = nil
		}
	}
	if s.fail == nil || s.outer != nil {
		return nil
	}
	return s.open()
}

func (s *server) open() error {
	listener, err := net.Listen("tcp", s.at.String())
	if err != nil {
		return fmt.Errorf("serving logs and exec at %s: %w; stop what has the port, a kubelet perhaps, or choose another node address", s.at, err)
	}
	s.outer = listener
	s.serve(listener)
	return nil
}

// serve answers on a listener until it is closed.
func (s *server) serve(listener net.Listener) {
	fail := s.fail
	s.wg.Go(func() {
		err := s.http.Serve(tls.NewListener(listener, s.tls))
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			fail(fmt.Errorf("serving logs and exec at %s: %w", listener.Addr(), err))
		}
	})
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("GET /pods", s.listPods)
	mux.Handle("GET /logs/", http.StripPrefix("/logs/", http.FileServer(http.Dir("/var/log")))) // of the node, for administrators
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", s.logs)
	for _, method := range []string{"GET ", "POST "} {
		mux.HandleFunc(method+"/exec/{namespace}/{pod}/{container}", s.exec)
		mux.HandleFunc(method+"/attach/{namespace}/{pod}/{container}", s.attach)
		mux.HandleFunc(method+"/portForward/{namespace}/{pod}", s.portForward)
	}
	s.routeFigures(mux)
	return mux
}

func (s *server) listPods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	for _, o := range s.n.pods.GetStore().List() {
		if pod, ok := o.(*corev1.Pod); ok && s.n.ours(pod) {
			list.Items = append(list.Items, *pod)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(list); err != nil {
		klog.V(2).InfoS("A client left while it was sent the pods", "err", err)
	}
}
