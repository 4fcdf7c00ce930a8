package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ports is a Service with a selector and these ports: "http 80 8080" or "dns 53 dns UDP", the third being the target port.
func ports(texts ...string) *corev1.Service {
	return service("web", func(svc *corev1.Service) {
		svc.UID = "1"
		svc.Spec.Selector = map[string]string{"app": "web"}
		svc.Spec.Ports = nil
		for _, text := range texts {
			var p corev1.ServicePort
			var target, protocol string
			fmt.Sscan(text, &p.Name, &p.Port, &target, &protocol)
			p.TargetPort, p.Protocol = intstr.Parse(target), corev1.Protocol(protocol)
			svc.Spec.Ports = append(svc.Spec.Ports, p)
		}
	})
}

// managed is a slice of the controller's with the ports "http 8080" or "dns 53 UDP".
func managed(addr string, texts ...string) *discoveryv1.EndpointSlice {
	s := slice("web-"+addr, "web", endpoint(addr, true, false))
	s.Labels[discoveryv1.LabelManagedBy] = managedByController
	s.Ports = nil
	for _, text := range texts {
		var name, protocol string
		var number int32
		fmt.Sscan(text, &name, &number, &protocol)
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: new(corev1.Protocol(protocol))})
	}
	return s
}

// lead is where the ports of a Service lead: "80>10.244.0.1:8080,10.244.0.2:8080 53>".
func lead(s *Service) string {
	var all []string
	for _, p := range s.Ports {
		var to []string
		for _, e := range p.Endpoints {
			to = append(to, e.AddrPort.String())
		}
		all = append(all, fmt.Sprintf("%d>%s", p.Port, strings.Join(to, ",")))
	}
	return strings.Join(all, " ")
}

// TestSlicesThatAreBehind: between a change of a Service and that of its slices, each port leads where it will lead, as far
// as that is known, and where it led, as far as it is the same port; never where another one led.
func TestSlicesThatAreBehind(t *testing.T) {
	one := []*discoveryv1.EndpointSlice{managed("10.244.0.1", "http 8080")}
	two := []*discoveryv1.EndpointSlice{managed("10.244.0.1", "http 8080", "admin 9090")}
	for _, c := range []struct {
		what   string
		steps  []*corev1.Service
		slices []*discoveryv1.EndpointSlice
		want   string
	}{
		{"renamed, number", []*corev1.Service{ports("http 80 8080"), ports("web 80 8080")}, one, "80>10.244.0.1:8080"},
		{"renamed, name", []*corev1.Service{ports("http 80 h"), ports("web 80 h")}, one, "80>10.244.0.1:8080"},
		{"renamed twice", []*corev1.Service{ports("http 80 h"), ports("web 80 h"), ports("www 80 h")}, one, "80>10.244.0.1:8080"},
		{"renamed there and back", []*corev1.Service{ports("http 80 h"), ports("web 80 h"), ports("http 80 h")},
			[]*discoveryv1.EndpointSlice{managed("10.244.0.1", "web 8080")}, "80>10.244.0.1:8080"},
		{"a part of the slices has followed", []*corev1.Service{ports("http 80 h"), ports("web 80 h")},
			[]*discoveryv1.EndpointSlice{managed("10.244.0.1", "http 8080"), managed("10.244.0.2", "web 8081")}, "80>10.244.0.1:8080,10.244.0.2:8081"},
		{"all slices have followed", []*corev1.Service{ports("http 80 h"), ports("web 80 h")},
			[]*discoveryv1.EndpointSlice{managed("10.244.0.1", "web 8080"), managed("10.244.0.2", "web 8081")}, "80>10.244.0.1:8080,10.244.0.2:8081"},
		{"renamed, and the target has a name now", []*corev1.Service{ports("http 80 8080"), ports("web 80 h")}, one, "80>10.244.0.1:8080"},
		{"the target has a name now", []*corev1.Service{ports("http 80 8080"), ports("http 80 h")}, one, "80>10.244.0.1:8080"},
		{"the target has a number now", []*corev1.Service{ports("http 80 h"), ports("http 80 8080")}, one, "80>10.244.0.1:8080"},
		{"another number", []*corev1.Service{ports("http 80 h"), ports("http 81 h")}, one, "81>10.244.0.1:8080"},
		{"another number and name", []*corev1.Service{ports("http 80 h"), ports("web 81 h")}, one, "81>10.244.0.1:8080"},
		{"two renamed", []*corev1.Service{ports("http 80 h", "admin 81 a"), ports("a 81 a", "h 80 h")}, two, "81>10.244.0.1:9090 80>10.244.0.1:8080"},
		{"names exchanged, numbers", []*corev1.Service{ports("http 80 8080", "admin 81 9090"), ports("admin 80 8080", "http 81 9090")}, two,
			"80>10.244.0.1:8080 81>10.244.0.1:9090"},
		{"one goes and another comes", []*corev1.Service{ports("http 80 h"), ports("metrics 9100 m")}, one, "9100>"},
		{"one comes", []*corev1.Service{ports("http 80 h"), ports("http 80 h", "metrics 9100 m")}, one, "80>10.244.0.1:8080 9100>"},
		{"another protocol", []*corev1.Service{ports("http 80 h"), ports("web 80 h UDP")}, one, "80>"},
		{"made anew", []*corev1.Service{ports("http 80 h"), func() *corev1.Service { s := ports("web 80 h"); s.UID = "2"; return s }()}, one, "80>"},
		{"nothing is known of before", []*corev1.Service{ports("web 80 8080")}, one, "80>10.244.0.1:8080"},
		{"slices of people say what they mean", []*corev1.Service{ports("http 80 8080"), ports("web 80 8080")},
			[]*discoveryv1.EndpointSlice{slice("own", "web", endpoint("10.244.0.9", true, false))}, "80>"},
	} {
		h, key := history{seen: map[Key]state{}}, Key{Namespace: "default", Name: "web"}
		var svc *corev1.Service
		var names former
		for _, s := range c.steps {
			svc, names, _ = h.step(key, func() (*corev1.Service, bool) { return s, true })
		}
		if got := lead(build(svc, c.slices, names)); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// TestFormerNamesAreForgotten when the slices have followed, with the Service, and as far as they are many.
func TestFormerNamesAreForgotten(t *testing.T) {
	h, key := history{seen: map[Key]state{}}, Key{Namespace: "default", Name: "web"}
	at := func(svc *corev1.Service, ok bool) former {
		_, names, _ := h.step(key, func() (*corev1.Service, bool) { return svc, ok })
		return names
	}
	at(ports("http 80 h"), true)
	renamed := ports("web 80 h")
	if names := at(renamed, true); len(names) != 1 {
		t.Errorf("after a change: %v", names)
	}
	h.followed(key, renamed, []*discoveryv1.EndpointSlice{managed("10.244.0.1", "http 8080"), managed("10.244.0.2", "web 8080")})
	if names := at(renamed, true); len(names) != 1 {
		t.Errorf("half of the slices followed: %v", names)
	}
	h.followed(key, renamed, []*discoveryv1.EndpointSlice{managed("10.244.0.1", "web 8080")})
	if names := at(renamed, true); len(names) != 0 {
		t.Errorf("all slices followed: %v", names)
	}
	for n := range 20 {
		at(ports(fmt.Sprintf("p%d 80 h", n)), true)
	}
	if names := slices.Concat(slices.Collect(func(yield func([]string) bool) {
		for _, n := range h.seen[key].former {
			if !yield(n) {
				return
			}
		}
	})...); len(names) != formerNames || names[0] != "p18" {
		t.Errorf("after many changes: %q", names)
	}
	if at(nil, false); len(h.seen) != 0 {
		t.Errorf("the Service is gone: %v", h.seen)
	}
}
