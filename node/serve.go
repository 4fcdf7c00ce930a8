package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// server is the kubelet's HTTPS endpoint: logs, exec, attach and port-forward for the API server.
type server struct {
	n        *Node
	listener net.Listener
	http     *http.Server
}

// apiServerClient is the common name of the API server's client certificate (kubeadm's layout).
const apiServerClient = "kube-apiserver-kubelet-client"

const systemMasters = "system:masters"

// listen takes the port, so that a taken one fails the start and not the first `kubectl logs`.
func (n *Node) listen() (*server, error) {
	listener, err := net.Listen("tcp", n.cfg.ServerAddr.String())
	if err != nil {
		return nil, fmt.Errorf("serving logs and exec at %s: %w; stop what has the port, a kubelet perhaps, or choose another node address", n.cfg.ServerAddr, err)
	}
	s := &server{n: n}
	s.listener = tls.NewListener(listener, &tls.Config{
		Certificates: []tls.Certificate{n.cfg.ServingCert},
		ClientAuth:   tls.RequestClientCert, // checked per request, for an answer in HTTP
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"}, // upgrades to SPDY and WebSocket need it
	})
	s.http = &http.Server{
		Handler:           s.authorized(s.routes()),
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

// serve answers until ctx ends.
func (s *server) serve(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving logs and exec at %s: %w", s.n.cfg.ServerAddr, err)
	}
	return nil
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
	return mux
}

// authorized lets the API server and administrators in, by client certificate. Everybody else who can reach
// the port could run commands in every pod.
func (s *server) authorized(next http.Handler) http.Handler {
	names := s.n.cfg.ServerClients
	if len(names) == 0 {
		names = []string{apiServerClient}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject, err := s.client(r)
		if err != nil {
			http.Error(w, "Unauthorized: "+err.Error(), http.StatusUnauthorized)
			return
		}
		if !slices.Contains(names, subject.Subject.CommonName) && !slices.Contains(subject.Subject.Organization, systemMasters) {
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource=proxy)", subject.Subject.CommonName, r.Method), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// client verifies the certificate of the caller.
func (s *server) client(r *http.Request) (*x509.Certificate, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, errors.New("show a client certificate of the cluster's CA")
	}
	options := x509.VerifyOptions{
		Roots:         s.n.cfg.ClientCAs,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if options.Roots == nil {
		return nil, errors.New("no client CA is configured") // nil would mean the host's roots
	}
	for _, c := range r.TLS.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	leaf := r.TLS.PeerCertificates[0]
	if _, err := leaf.Verify(options); err != nil {
		return nil, fmt.Errorf("the client certificate does not verify: %w", err)
	}
	return leaf, nil
}

func (s *server) listPods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{TypeMeta: v1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
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
