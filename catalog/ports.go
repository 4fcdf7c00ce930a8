package catalog

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// managedByController is who writes the EndpointSlices of a Service with a selector (label endpointslice.kubernetes.io/managed-by).
const managedByController = "endpointslice-controller.k8s.io"

// portID tells the ports of a Service apart in its EndpointSlices, which know nothing of the numbers that clients dial.
type portID struct {
	name     string
	protocol corev1.Protocol
}

func idOf(p corev1.ServicePort) portID { return portID{p.Name, protocolOrTCP(p.Protocol)} }

// former are the names that ports of a Service had before, the newest first: EndpointSlices are written a moment after
// their Service, and until then they have the ports under these names.
type former map[portID][]string

// formerNames bounds how many names of a port are remembered: slices are behind by very few changes.
const formerNames = 8

// after is what was known of the Service before, and what the step to now adds. Ports are the same when clients dial
// the same number, or else when they lead to the same port of the pods.
func (f former) after(before, now *corev1.Service) former {
	next := former{}
	for _, port := range now.Spec.Ports {
		was, ok := samePort(before.Spec.Ports, port, now.Spec.Ports)
		if !ok {
			continue
		}
		names := append([]string{was.Name}, f[idOf(was)]...)
		names = slices.DeleteFunc(names, func(name string) bool { return name == port.Name })
		if len(names) > 0 {
			next[idOf(port)] = names[:min(len(names), formerNames)]
		}
	}
	return next
}

// samePort finds what port was before among the ports of before.
func samePort(before []corev1.ServicePort, port corev1.ServicePort, now []corev1.ServicePort) (corev1.ServicePort, bool) {
	dialled := func(p corev1.ServicePort) func(corev1.ServicePort) bool {
		return func(q corev1.ServicePort) bool {
			return p.Port == q.Port && protocolOrTCP(p.Protocol) == protocolOrTCP(q.Protocol)
		}
	}
	at := slices.IndexFunc(before, dialled(port))
	if at < 0 {
		at = slices.IndexFunc(before, func(p corev1.ServicePort) bool {
			return p.TargetPort == port.TargetPort && protocolOrTCP(p.Protocol) == protocolOrTCP(port.Protocol) && !slices.ContainsFunc(now, dialled(p))
		})
	}
	if at < 0 {
		return corev1.ServicePort{}, false
	}
	return before[at], true
}

// history remembers the last state of every Service that was asked for, to know what its ports were called before.
type history struct {
	mu   sync.Mutex
	seen map[Key]state
}

type state struct {
	service *corev1.Service
	former  former
}

// step reads the present Service and returns it with the former names of its ports; false when there is none.
func (h *history) step(key Key, read func() (*corev1.Service, bool)) (*corev1.Service, former, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	svc, ok := read() // with h.mu held, so that nobody goes back to an older one
	if !ok {
		delete(h.seen, key)
		return nil, nil, false
	}
	was := h.seen[key]
	if was.service != svc {
		now := state{service: svc}
		if was.service != nil && was.service.UID == svc.UID {
			now.former = was.former.after(was.service, svc)
		}
		h.seen[key], was = now, now
	}
	return svc, was.former, true
}

// followed forgets the former names of a Service when its slices have the present ones.
func (h *history) followed(key Key, svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) {
	for _, slice := range endpointSlices {
		for _, port := range svc.Spec.Ports {
			if _, ok := portNamed(slice, idOf(port)); !ok {
				return
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(endpointSlices) > 0 && h.seen[key].service == svc {
		h.seen[key] = state{service: svc}
	}
}

// source is where the endpoints of a port are found in slices.
type source struct {
	portID
	former []string
	target uint16 // of the pods, where the Service says its number
}

// sourcesOf are those of the ports in the spec, in order.
func sourcesOf(svc *corev1.Service, names former) []source {
	var all []source
	for _, p := range svc.Spec.Ports {
		s := source{portID: idOf(p)}
		for _, name := range names[s.portID] {
			if !slices.ContainsFunc(svc.Spec.Ports, func(q corev1.ServicePort) bool { return idOf(q) == portID{name, s.protocol} }) {
				s.former = append(s.former, name)
			}
		}
		if p.TargetPort.Type == intstr.Int && len(svc.Spec.Selector) > 0 {
			s.target = uint16(p.TargetPort.IntVal)
		}
		all = append(all, s)
	}
	return all
}

// in is the number of the port in a slice; false when the slice has no such port. What the controller is about to write
// into its own slices is known where the Service says the number: pods that it selects have every number. Names of the
// past count as long as the slice does not have the present one. Slices that people write say exactly what they mean.
func (s source) in(slice *discoveryv1.EndpointSlice) (uint16, bool) {
	if slice.Labels[discoveryv1.LabelManagedBy] != managedByController {
		return portNamed(slice, s.portID)
	}
	if s.target != 0 && len(slice.Ports) > 0 {
		return s.target, true
	}
	number, ok := portNamed(slice, s.portID)
	for _, name := range s.former {
		if ok {
			break
		}
		number, ok = portNamed(slice, portID{name, s.protocol})
	}
	return number, ok
}

func portNamed(slice *discoveryv1.EndpointSlice, id portID) (uint16, bool) {
	for _, p := range slice.Ports {
		if deref(p.Name) == id.name && protocolOrTCP(deref(p.Protocol)) == id.protocol && p.Port != nil {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func servicePorts(svc *corev1.Service) []Port {
	ports := make([]Port, 0, len(svc.Spec.Ports))
	for _, p := range svc.Spec.Ports {
		ports = append(ports, Port{
			Name:        p.Name,
			Protocol:    protocolOrTCP(p.Protocol),
			Port:        uint16(p.Port),
			NodePort:    uint16(p.NodePort),
			AppProtocol: deref(p.AppProtocol),
		})
	}
	return ports
}

// appendSlicePorts adds the ports that only the slices of a headless Service name: its spec may have none.
func appendSlicePorts(ports []Port, endpointSlices []*discoveryv1.EndpointSlice) []Port {
	for _, slice := range endpointSlices {
		for _, sp := range slice.Ports {
			p := Port{Name: deref(sp.Name), Protocol: protocolOrTCP(deref(sp.Protocol)), Port: uint16(deref(sp.Port)), AppProtocol: deref(sp.AppProtocol)}
			known := slices.ContainsFunc(ports, func(q Port) bool { return q.Name == p.Name && q.Protocol == p.Protocol })
			if !known && p.Port != 0 {
				ports = append(ports, p)
			}
		}
	}
	return ports
}

func endpointsOf(port source, endpointSlices []*discoveryv1.EndpointSlice) []Endpoint {
	var all []Endpoint
	for _, slice := range endpointSlices {
		if number, ok := port.in(slice); ok {
			all = appendEndpoints(all, slice, number)
		}
	}
	return sorted(all)
}
