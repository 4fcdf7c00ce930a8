package node

import (
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apiproxy "k8s.io/apimachinery/pkg/util/proxy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/klog/v2"

	podplan "svcplane/node/pod"
)

// findPod gives the pod of a request, or answers it.
func (s *server) findPod(w http.ResponseWriter, r *http.Request) (*corev1.Pod, bool) {
	key := r.PathValue("namespace") + "/" + r.PathValue("pod")
	o, ok, err := s.n.pods.GetStore().GetByKey(key)
	if err != nil || !ok || !s.n.ours(o.(*corev1.Pod)) {
		http.Error(w, fmt.Sprintf("pod does not exist: %s is not on node %s", key, s.n.cfg.Name), http.StatusNotFound)
		return nil, false
	}
	return o.(*corev1.Pod), true
}

// findRunning gives the id of the running container of a request, or answers it.
func (s *server) findRunning(w http.ResponseWriter, r *http.Request) (id string, ok bool) {
	pod, ok := s.findPod(w, r)
	if !ok {
		return "", false
	}
	st, err := readState(r.Context(), s.n.cfg.Runtime, pod.UID)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return "", false
	}
	c := st.Latest(r.PathValue("container"))
	if !podplan.IsRunning(c) {
		http.Error(w, fmt.Sprintf("container not found (%q)", r.PathValue("container")), http.StatusNotFound)
		return "", false
	}
	return c.Id, true
}

func flag(q url.Values, name string) bool { return q.Get(name) == "1" || q.Get(name) == "true" }

// exec asks the runtime for a stream and passes the connection on to it.
func (s *server) exec(w http.ResponseWriter, r *http.Request) {
	id, ok := s.findRunning(w, r)
	if !ok {
		return
	}
	q := r.URL.Query()
	resp, err := s.n.cfg.Runtime.Exec(r.Context(), &runtimeapi.ExecRequest{
		ContainerId: id,
		Cmd:         q["command"],
		Tty:         flag(q, "tty"),
		Stdin:       flag(q, "input"),
		Stdout:      flag(q, "output"),
		Stderr:      flag(q, "error") && !flag(q, "tty"), // a terminal has one output
	})
	s.hand(w, r, "exec", resp.GetUrl(), err)
}

func (s *server) attach(w http.ResponseWriter, r *http.Request) {
	id, ok := s.findRunning(w, r)
	if !ok {
		return
	}
	q := r.URL.Query()
	resp, err := s.n.cfg.Runtime.Attach(r.Context(), &runtimeapi.AttachRequest{
		ContainerId: id,
		Tty:         flag(q, "tty"),
		Stdin:       flag(q, "input"),
		Stdout:      flag(q, "output"),
		Stderr:      flag(q, "error") && !flag(q, "tty"),
	})
	s.hand(w, r, "attach", resp.GetUrl(), err)
}

func (s *server) portForward(w http.ResponseWriter, r *http.Request) {
	pod, ok := s.findPod(w, r)
	if !ok {
		return
	}
	st, err := readState(r.Context(), s.n.cfg.Runtime, pod.UID)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sandbox, ready := st.Sandbox()
	if !ready {
		http.Error(w, fmt.Sprintf("pod %s does not run", podText(pod)), http.StatusNotFound)
		return
	}
	// Clients that speak WebSocket without SPDY inside name the ports here, the others with each connection.
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	resp, err := s.n.cfg.Runtime.PortForward(r.Context(), &runtimeapi.PortForwardRequest{PodSandboxId: sandbox.Id, Port: options.Ports})
	s.hand(w, r, "port-forward", resp.GetUrl(), err)
}

// hand connects the caller with the runtime's streaming server.
func (s *server) hand(w http.ResponseWriter, r *http.Request, what, target string, err error) {
	if unimplemented(err) {
		http.Error(w, fmt.Sprintf("%s is not offered by the container runtime %s of this node: %s", what, s.n.runtimeName, statusText(err)), http.StatusNotImplemented)
		return
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("%s: %s", what, statusText(err)), http.StatusInternalServerError)
		return
	}
	location, err := url.Parse(target)
	if err != nil {
		http.Error(w, fmt.Sprintf("%s: the container runtime gave a url that does not parse: %v", what, err), http.StatusInternalServerError)
		return
	}
	apiproxy.NewUpgradeAwareHandler(location, nil, false, true, responder{}).ServeHTTP(w, r)
}

type responder struct{}

func (responder) Error(w http.ResponseWriter, r *http.Request, err error) {
	klog.ErrorS(err, "Connecting a client with the container runtime", "path", r.URL.Path)
	http.Error(w, err.Error(), http.StatusInternalServerError)
}
