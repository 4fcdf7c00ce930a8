package node

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
)

// logs answers `kubectl logs` in the wording of the kubelet, which tools match on.
func (s *server) logs(w http.ResponseWriter, r *http.Request) {
	pod, ok := s.findPod(w, r)
	if !ok {
		return
	}
	name := r.PathValue("container")
	if findContainer(pod, name) == nil {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q", name, pod.Name), http.StatusNotFound)
		return
	}
	options, previous, err := logOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	c, err := s.n.logged(r.Context(), pod, name, previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &flushing{w: w}
	stdout, stderr := io.Writer(out), io.Writer(out)
	switch r.URL.Query().Get("stream") {
	case corev1.LogStreamStdout:
		stderr = io.Discard
	case corev1.LogStreamStderr:
		stdout = io.Discard
	}
	if err := logs.ReadLogs(r.Context(), c.LogPath, c.Id, options, s.n.cfg.Runtime, stdout, stderr); err != nil && !out.used {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// logged finds the instance of a container whose log is asked for.
func (n *Node) logged(ctx context.Context, pod *corev1.Pod, name string, previous bool) (*runtimeapi.ContainerStatus, error) {
	st, err := readState(ctx, n.cfg.Runtime, pod.UID)
	if err != nil {
		return nil, err
	}
	var started []*runtimeapi.ContainerStatus
	for _, c := range st.All(name) {
		if c.StartedAt != 0 {
			started = append(started, c)
		}
	}
	switch {
	case previous && (len(started) < 1 || len(started) < 2 && st.Latest(name) == started[0]):
		return nil, fmt.Errorf("previous terminated container %q in pod %q not found", name, pod.Name)
	case previous && st.Latest(name) == started[0]:
		return started[1], nil
	case len(started) > 0:
		return started[0], nil
	}
	reason := "ContainerCreating"
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range list {
			if list[i].Name == name && list[i].State.Waiting != nil && list[i].State.Waiting.Reason != "" {
				reason = list[i].State.Waiting.Reason
			}
		}
	}
	return nil, fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod.Name, reason)
}

// logOptions reads the query of v1.PodLogOptions.
func logOptions(q url.Values) (*logs.LogOptions, bool, error) {
	o := &logs.LogOptions{Follow: flag(q, "follow"), Timestamp: flag(q, "timestamps")}
	var err error
	if o.TailLines, err = number(q, "tailLines", 0); err != nil {
		return nil, false, err
	}
	if o.LimitBytes, err = number(q, "limitBytes", 1); err != nil {
		return nil, false, err
	}
	seconds, err := number(q, "sinceSeconds", 1)
	if err != nil {
		return nil, false, err
	}
	if seconds != nil {
		o.Since = time.Now().Add(-time.Duration(*seconds) * time.Second)
	}
	if text := q.Get("sinceTime"); text != "" {
		if seconds != nil {
			return nil, false, fmt.Errorf("at most one of sinceTime and sinceSeconds may be given")
		}
		if o.Since, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, false, fmt.Errorf("sinceTime: %q is no time of RFC 3339", text)
		}
	}
	return o, flag(q, "previous"), nil
}

func number(q url.Values, name string, least int64) (*int64, error) {
	text := q.Get(name)
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least {
		return nil, fmt.Errorf("%s: %q is no number of at least %d", name, text, least)
	}
	return &n, nil
}

// flushing sends every write at once: somebody may be following.
type flushing struct {
	w    http.ResponseWriter
	used bool
}

func (f *flushing) Write(p []byte) (int, error) {
	f.used = true
	n, err := f.w.Write(p)
	if flusher, ok := f.w.(http.Flusher); ok {
		flusher.Flush()
	}
	return n, err
}
