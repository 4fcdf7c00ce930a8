package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	httpprobe "k8s.io/kubernetes/pkg/probe/http"

	podplan "svcplane/node/pod"
)

// postStart runs the hook of a container that was just started. If it fails, the container is killed.
func (n *Node) postStart(ctx context.Context, l *launch, c *corev1.Container, id string) *podplan.Why {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	ip := ""
	if len(l.ips) > 0 {
		ip = l.ips[0].String()
	}
	err := n.hook(ctx, c, id, ip, c.Lifecycle.PostStart)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	// The output may hold secrets: it goes into the status, which only readers of the pod see, not into Events.
	n.cfg.Recorder.Event(objectRef(l.pod, c), corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
	s := &runtimeapi.ContainerStatus{Id: id, Labels: podplan.ContainerLabels(l.pod, c), State: runtimeapi.ContainerState_CONTAINER_RUNNING}
	if err := n.stopContainer(ctx, l.pod, c, s, graceOf(l.pod), "FailedPostStartHook"); err != nil {
		klog.ErrorS(err, "Stopping a container whose postStart hook failed", "pod", klog.KObj(l.pod))
	}
	return &podplan.Why{Reason: "PostStartHookError", Message: err.Error()}
}

// preStop runs the hook of a container that is about to be stopped, for at most grace.
func (n *Node) preStop(ctx context.Context, pod *corev1.Pod, c *corev1.Container, s *runtimeapi.ContainerStatus, grace time.Duration) {
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	ip := pod.Status.PodIP
	if err := n.hook(ctx, c, s.Id, ip, c.Lifecycle.PreStop); err != nil {
		klog.InfoS("A preStop hook failed", "pod", klog.KObj(pod), "container", c.Name, "err", err)
		n.cfg.Recorder.Event(objectRef(pod, c), corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
	}
}

// rememberedPreStop reads the hook of a pod that the API does not have any more.
func rememberedPreStop(s *runtimeapi.ContainerStatus) *corev1.Lifecycle {
	text := s.Annotations[podplan.AnnotationPreStop]
	if text == "" {
		return nil
	}
	hook := &corev1.LifecycleHandler{}
	if err := json.Unmarshal([]byte(text), hook); err != nil {
		klog.ErrorS(err, "Reading the preStop hook that a container carries", "container", s.Id)
		return nil
	}
	return &corev1.Lifecycle{PreStop: hook}
}

func (n *Node) hook(ctx context.Context, c *corev1.Container, id, ip string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		out, err := n.execSync(ctx, id, h.Exec.Command, 0)
		if err != nil {
			//lint:ignore ST1005 the kubelet's words
			return fmt.Errorf("Exec lifecycle hook (%v) for Container %q failed - error: %w, message: %q", h.Exec.Command, c.Name, err, out)
		}
		return nil
	case h.HTTPGet != nil:
		if err := httpHook(ctx, h.HTTPGet, c, ip); err != nil {
			return fmt.Errorf("HTTP lifecycle hook (%s) for Container %q failed - error: %w", h.HTTPGet.Path, c.Name, err)
		}
		return nil
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return errors.New("container terminated before sleep hook finished")
		}
	}
	return fmt.Errorf("the lifecycle hook of container %q has no handler; use exec, httpGet or sleep", c.Name)
}

// httpHook makes the request; as documented any answer counts as done. A server that speaks HTTP where HTTPS
// was asked for is tried again with HTTP.
func httpHook(ctx context.Context, get *corev1.HTTPGetAction, c *corev1.Container, ip string) error {
	if get.Host != "" {
		ip = get.Host
	}
	req, err := httpprobe.NewRequestForHTTPGetAction(get, c, ip, "lifecycle")
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		// Pods have certificates of their own making (Kubernetes: hooks skip verification, as probes do).
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		plain := req.Clone(ctx)
		plain.URL.Scheme = "http"
		plain.Header.Del("Authorization")
		resp, err = client.Do(plain)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 10<<10))
	return err
}

// execSync runs a command in a container and gives both of its outputs. A timeout of 0 is none.
func (n *Node) execSync(ctx context.Context, id string, command []string, timeout time.Duration) ([]byte, error) {
	stdout, stderr, err := n.cfg.Runtime.ExecSync(ctx, id, command, timeout)
	return append(stdout, stderr...), err
}
