package diagnose

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxPods is how many pods of a Service are looked at: the third says what the first two have said.
const maxPods = 3

// Evidence is what a diagnosis follows from.
type Evidence struct {
	Service *corev1.Service
	Pods    []*corev1.Pod            // of its namespace
	Probes  map[types.UID]string     // what a failed probe of a pod said last; pods without one are absent
	Tried   map[netip.AddrPort]error // TCP connects from the node, nil where one was taken; absent: not tried
}

// ToTry lists the addresses where a connection would tell something: the TCP targets of running pods.
func (e Evidence) ToTry() []netip.AddrPort {
	var all []netip.AddrPort
	for _, p := range e.selected() {
		for _, port := range e.Service.Spec.Ports {
			if at, ok := target(p, port); ok && port.Protocol != corev1.ProtocolUDP && port.Protocol != corev1.ProtocolSCTP && !slices.Contains(all, at) {
				all = append(all, at)
			}
		}
	}
	return all
}

// Mistakes gives one sentence for each mistake.
func (e Evidence) Mistakes() []string {
	spec := &e.Service.Spec
	if len(spec.Selector) == 0 || spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	pods := e.selected()
	if len(pods) == 0 {
		return []string{e.nobody()}
	}
	var all []string
	for _, p := range pods {
		if why := e.unready(p); why != "" {
			all = append(all, why)
		}
	}
	for _, port := range spec.Ports {
		for _, p := range pods {
			if why := e.wrongTarget(p, port); why != "" {
				all = append(all, why)
				break // the other pods are of the same template
			}
		}
	}
	return all
}

// selected are the first pods that the Service's selector matches and that have not ended.
func (e Evidence) selected() []*corev1.Pod {
	if len(e.Service.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(e.Service.Spec.Selector)
	var all []*corev1.Pod
	for _, p := range e.Pods {
		if ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed; !ended && selector.Matches(labels.Set(p.Labels)) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return all[:min(len(all), maxPods)]
}

// nobody explains a selector without pods by the pod that comes nearest to it.
func (e Evidence) nobody() string {
	want := e.Service.Spec.Selector
	text := fmt.Sprintf("no pod of namespace %s has the labels %s", e.Service.Namespace, labels.Set(want))
	var nearest *corev1.Pod
	var lacks []string
	for _, p := range e.Pods {
		missing, known := differences(want, p.Labels)
		better := nearest == nil || len(missing) < len(lacks) || len(missing) == len(lacks) && p.Name < nearest.Name
		if known && better && len(missing) > 0 {
			nearest, lacks = p, missing
		}
	}
	if nearest == nil {
		return text
	}
	return fmt.Sprintf("%s; pod %s comes nearest: %s", text, nearest.Name, strings.Join(lacks, ", "))
}

// differences tells what labels lack of a selector; known says whether they have at least one of its keys.
func differences(want, have map[string]string) (missing []string, known bool) {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		value, ok := have[key]
		known = known || ok
		switch {
		case !ok:
			missing = append(missing, "it has no label "+key)
		case value != want[key]:
			missing = append(missing, fmt.Sprintf("it has %s=%s", key, value))
		}
	}
	return missing, known
}

// unready says why a pod takes no connections, in the words of whoever found out.
func (e Evidence) unready(p *corev1.Pod) string {
	var ready, scheduled corev1.PodCondition
	for _, c := range p.Status.Conditions {
		switch c.Type {
		case corev1.PodReady:
			ready = c
		case corev1.PodScheduled:
			scheduled = c
		}
	}
	if ready.Status == corev1.ConditionTrue || p.DeletionTimestamp != nil {
		return ""
	}
	text := fmt.Sprintf("pod %s is not ready", p.Name)
	if scheduled.Status == corev1.ConditionFalse {
		return text + ": " + scheduled.Message
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
			return strings.TrimSuffix(fmt.Sprintf("%s: container %s waits (%s): %s", text, s.Name, w.Reason, w.Message), ": ")
		}
	}
	if said := e.Probes[p.UID]; said != "" {
		return text + ": " + said
	}
	for _, gate := range p.Spec.ReadinessGates {
		if !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}) {
			return fmt.Sprintf("%s: nobody has set its readiness gate %s", text, gate.ConditionType)
		}
	}
	if ready.Message != "" {
		return text + ": " + ready.Message
	}
	return text
}

// wrongTarget says that a port of the Service leads to where the pod does not listen.
func (e Evidence) wrongTarget(p *corev1.Pod, port corev1.ServicePort) string {
	which := fmt.Sprintf("the targetPort of port %s", portName(port))
	at, ok := target(p, port)
	switch {
	case !ok && port.TargetPort.Type == intstr.String && len(p.Status.PodIPs) > 0:
		return fmt.Sprintf("%s is %q, and no container of pod %s declares a port of that name%s", which, port.TargetPort.StrVal, p.Name, declared(p, "; declared are "))
	case !ok:
		return ""
	}
	err, tried := e.Tried[at]
	if !tried || err == nil {
		return ""
	}
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		if declares(p, at.Port(), port.Protocol) {
			return fmt.Sprintf("nothing listens on %s, %s (connection refused): pod %s declares that port, but its program does not listen on the pod's address", at, which, p.Name)
		}
		return fmt.Sprintf("nothing listens on %s, %s (connection refused)%s", at, which, declared(p, ": pod "+p.Name+" declares "))
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("%s, %s, does not answer (no reply to a connection from the node)", at, which)
	}
	return fmt.Sprintf("%s, %s, cannot be reached from the node: %v", at, which, err)
}

func portName(port corev1.ServicePort) string {
	if port.Name != "" {
		return fmt.Sprintf("%s (%d)", port.Name, port.Port)
	}
	return fmt.Sprint(port.Port)
}

// target is where a port of the Service leads on a pod; false while the pod has no address, or no port of the name.
func target(p *corev1.Pod, port corev1.ServicePort) (netip.AddrPort, bool) {
	addr, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil || p.Status.Phase != corev1.PodRunning {
		return netip.AddrPort{}, false
	}
	number := port.TargetPort.IntVal
	if port.TargetPort.Type == intstr.String {
		number = 0
		eachPort(p, func(c corev1.ContainerPort) {
			if c.Name == port.TargetPort.StrVal && protocolOf(c.Protocol) == protocolOf(port.Protocol) {
				number = c.ContainerPort
			}
		})
	} else if number == 0 {
		number = port.Port
	}
	return netip.AddrPortFrom(addr, uint16(number)), number > 0
}

func protocolOf(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// eachPort calls f for the ports of containers, and of init containers that go on running (KEP-753).
func eachPort(p *corev1.Pod, f func(corev1.ContainerPort)) {
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			f(port)
		}
	}
	for _, c := range p.Spec.InitContainers {
		for _, port := range c.Ports {
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
				f(port)
			}
		}
	}
}

func declares(p *corev1.Pod, number uint16, protocol corev1.Protocol) bool {
	found := false
	eachPort(p, func(c corev1.ContainerPort) {
		found = found || c.ContainerPort == int32(number) && protocolOf(c.Protocol) == protocolOf(protocol)
	})
	return found
}

// declared lists the ports of a pod behind a prefix; empty if it declares none.
func declared(p *corev1.Pod, prefix string) string {
	var all []string
	eachPort(p, func(c corev1.ContainerPort) {
		text := fmt.Sprintf("%d/%s", c.ContainerPort, protocolOf(c.Protocol))
		if c.Name != "" {
			text += " (" + c.Name + ")"
		}
		all = append(all, text)
	})
	if len(all) == 0 {
		return ""
	}
	return prefix + strings.Join(all, ", ")
}
