package proxy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
)

const (
	// noticePatience keeps a roll-out that is under way from being reported.
	noticePatience = 5 * time.Second
	// noticePause is the least time between two Events of one reason on one Service.
	noticePause = 5 * time.Minute
)

// notices collects what people should know about Services, and says it in Events, sparsely.
type notices map[catalog.Key]*watched

type watched struct {
	ref   corev1.ObjectReference
	due   map[string]notice // by reason
	since map[string]time.Time
	said  map[string]time.Time
}

type notice struct {
	message  string
	patience time.Duration
}

func (n notices) forget(key catalog.Key) { delete(n, key) }

func (n notices) of(key catalog.Key) *watched {
	w, ok := n[key]
	if !ok {
		w = &watched{
			ref: corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: key.Namespace, Name: key.Name},
			due: map[string]notice{}, since: map[string]time.Time{}, said: map[string]time.Time{},
		}
		n[key] = w
	}
	return w
}

// observe looks for Services that have no endpoint.
func (n notices) observe(svc *catalog.Service, node Node) {
	w := n.of(svc.Key)
	if w.ref.UID != svc.UID {
		n.forget(svc.Key)
		w = n.of(svc.Key)
		w.ref.UID = svc.UID
	}
	lacking := starving(svc)
	for _, reason := range []string{"NoEndpoints", "PortNotFound"} {
		w.set(reason, lacking[reason], noticePatience)
	}
	refused := ""
	if node.NoExternalIPs && len(svc.ExternalIPs) > 0 && !svc.ForeignProxy {
		refused = "spec.externalIPs are not served on this cluster, where whoever may make a Service could take the traffic of any address with them (CVE-2020-8554): use type LoadBalancer, or start the server with --external-ips"
	}
	w.set("ExternalIPsRefused", refused, 0)
}

// set makes a message due, or no longer when it is empty.
func (w *watched) set(reason, message string, patience time.Duration) {
	if message == "" {
		delete(w.due, reason)
		delete(w.since, reason)
		return
	}
	w.due[reason] = notice{message: message, patience: patience}
	if _, known := w.since[reason]; !known {
		w.since[reason] = time.Now()
	}
}

// starving says, by reason, why a Service has no endpoint. Pods that are not ready count as there.
func starving(svc *catalog.Service) map[string]string {
	if svc.ForeignProxy || svc.ExternalName != "" {
		return nil
	}
	if len(svc.Hosts) == 0 {
		if svc.Selector == "" {
			return map[string]string{"NoEndpoints": "the service has no selector and nobody made endpoints for it: create an EndpointSlice labelled kubernetes.io/service-name=" + svc.Name}
		}
		return map[string]string{"NoEndpoints": fmt.Sprintf("no running pod matches the selector %s: compare it with kubectl -n %s get pods --show-labels", svc.Selector, svc.Namespace)}
	}
	var ports []string
	for _, p := range svc.Ports {
		if len(p.Endpoints) == 0 {
			ports = append(ports, strings.TrimSpace(fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol)))
		}
	}
	if len(ports) == 0 || svc.Selector == "" && svc.Headless {
		return nil
	}
	return map[string]string{"PortNotFound": fmt.Sprintf(
		"none of the %d pods behind the service has a port for %s: give targetPort a number, or a name that the pods' containers declare in ports[].name with the same protocol",
		len(svc.Hosts), strings.Join(ports, ", "))}
}

// refused notes that the kernel did not take a Service.
func (n notices) refused(key catalog.Key, err error) {
	n.of(key).set("ProxySyncFailed", fmt.Sprintf("the service is served as before, because the kernel refused its rules; it is tried again until it works: %v", err), 0)
}

// accepted notes that the kernel has taken a Service, but for the addresses that it does not get.
func (n notices) accepted(key catalog.Key, lost []Refusal) {
	w, known := n[key]
	if !known {
		return
	}
	w.set("ProxySyncFailed", "", 0)
	n.without(key, lost)
}

// without notes which addresses a Service does not get.
func (n notices) without(key catalog.Key, lost []Refusal) {
	w, known := n[key]
	if !known {
		return
	}
	texts := map[Kind][]string{}
	for _, r := range lost {
		texts[r.Kind] = append(texts[r.Kind], r.Why)
	}
	for _, kind := range []Kind{ClusterIP, NodePort, LoadBalancerIP, ExternalIP} {
		slices.Sort(texts[kind])
		w.renew(kind.reason(), strings.Join(slices.Compact(texts[kind]), "; "))
	}
}

// renew sets a message that is worth an Event of its own whenever it is another one: somebody has just changed something,
// and waits to see what comes of it.
func (w *watched) renew(reason, message string) {
	if was, ok := w.due[reason]; ok && was.message != message {
		delete(w.since, reason)
		delete(w.said, reason)
	}
	w.set(reason, message, 0)
}

// report writes the Events that are due.
func (n notices) report(recorder record.EventRecorder, now time.Time) {
	for _, w := range n {
		for reason, due := range w.due {
			if now.Sub(w.since[reason]) < due.patience {
				continue
			}
			if last, ever := w.said[reason]; ever && (now.Sub(last) < noticePause || !last.Before(w.since[reason])) {
				continue
			}
			w.said[reason] = now
			recorder.Event(&w.ref, corev1.EventTypeWarning, reason, due.message)
		}
	}
}
