package ingress

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"svcplane/ingress/source/ingress/annotations"
)

func (w *world) createIngress(ing *networkingv1.Ingress) {
	w.t.Helper()
	_, err := w.client.NetworkingV1().Ingresses(ing.Namespace).Create(context.Background(), ing, metav1.CreateOptions{})
	w.must(err)
}

func (w *world) updateIngress(name string, change func(*networkingv1.Ingress)) {
	w.t.Helper()
	ing, err := w.client.NetworkingV1().Ingresses("default").Get(context.Background(), name, metav1.GetOptions{})
	w.must(err)
	change(ing)
	_, err = w.client.NetworkingV1().Ingresses("default").Update(context.Background(), ing, metav1.UpdateOptions{})
	w.must(err)
}

// addressesOf is the status of an Ingress as text.
func (w *world) addressesOf(name string) string {
	ing, err := w.client.NetworkingV1().Ingresses("default").Get(context.Background(), name, metav1.GetOptions{})
	w.must(err)
	var ips []string
	for _, in := range ing.Status.LoadBalancer.Ingress {
		ips = append(ips, in.IP)
	}
	return strings.Join(ips, " ")
}

func (w *world) hasAddresses(name, want string) {
	w.t.Helper()
	w.eventually(func() error {
		if got := w.addressesOf(name); got != want {
			return fmt.Errorf("status of %s is %q, want %q", name, got, want)
		}
		return nil
	})
}

// TestTargetsOfRules: service port by number and by name, several paths and hosts, ImplementationSpecific as
// Prefix, the default for what no rule takes.
func TestTargetsOfRules(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	_, b := endpointServer(t, says("b"))
	_, d := endpointServer(t, says("default"))
	ing := anIngress("x",
		rule("one.test", path("/a", networkingv1.PathTypePrefix, "a"), path("/b", networkingv1.PathTypeExact, "b:http")),
		rule("*.two.test", path("", networkingv1.PathTypeImplementationSpecific, "b")))
	catchAll := anIngress("all")
	catchAll.Spec.DefaultBackend = ptr(target("d"))
	w := newWorld(t, service("a"), slice("a", a), service("b"), slice("b", b), service("d"), slice("d", d), ing, catchAll)
	w.answers("one.test", "/a/x", 200, "a /a/x")
	w.answers("one.test", "/b", 200, "b /b")
	w.answers("one.test", "/b/x", 200, "default")
	w.answers("x.two.test", "/any", 200, "b /any")
	w.answers("two.test", "/any", 200, "default")
	if got := w.ingress.Figure(); got != "4 routes, 0 certificates" {
		t.Errorf("figure %q", got)
	}
	var lines []string
	for _, r := range w.ingress.Routes() {
		lines = append(lines, fmt.Sprint(r.Host, " ", r.Kind, " ", r.Path, " ", r.Service, " ", len(r.Endpoints)))
	}
	want := "* Default  default/d:80 1; *.two.test Prefix / default/b:80 1; one.test Exact /b default/b:http 1; one.test Prefix /a default/a:80 1"
	if got := strings.Join(lines, "; "); got != want {
		t.Errorf("routes\n%s, want\n%s", got, want)
	}
}

// TestDefaultOfAnIngress: it takes what the rules of its own hosts leave, before a class-wide default.
func TestDefaultOfAnIngress(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	_, own := endpointServer(t, says("own"))
	_, all := endpointServer(t, says("all"))
	ing := anIngress("x", rule("one.test", path("/a", networkingv1.PathTypePrefix, "a")), networkingv1.IngressRule{Host: "bare.test"})
	ing.Spec.DefaultBackend = ptr(target("own"))
	ing.CreationTimestamp = metav1.Unix(1, 0) // older, and yet no match for an Ingress that says nothing else
	catchAll := anIngress("all")
	catchAll.Spec.DefaultBackend = ptr(target("all"))
	w := newWorld(t, service("a"), slice("a", a), service("own"), slice("own", own), service("all"), slice("all", all), ing, catchAll)
	w.answers("one.test", "/a", 200, "a")
	w.answers("one.test", "/z", 200, "own")
	w.answers("bare.test", "/", 200, "own")
	w.answers("other.test", "/", 200, "all")
	w.must(w.client.NetworkingV1().Ingresses("default").Delete(context.Background(), "all", metav1.DeleteOptions{}))
	w.answers("other.test", "/", 200, "own") // "requests that don't match any rule"
}

// TestWhoseIngress: class by spec.controller, the default class, the legacy annotation first.
func TestWhoseIngress(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	named := func(name string, change func(*networkingv1.Ingress)) *networkingv1.Ingress {
		ing := anIngress(name, rule(name, path("/", networkingv1.PathTypePrefix, "a")))
		change(ing)
		return ing
	}
	classed := func(class string) func(*networkingv1.Ingress) {
		return func(ing *networkingv1.Ingress) { ing.Spec.IngressClassName = &class }
	}
	annotated := func(class string) func(*networkingv1.Ingress) {
		return func(ing *networkingv1.Ingress) {
			ing.Annotations = map[string]string{annotations.ClassKey: class}
			ing.Spec.IngressClassName = ptr("nginx")
		}
	}
	w := newWorld(t, service("a"), slice("a", a), class("nginx", "k8s.io/ingress-nginx", false), class("alias", "svcplane.io/ingress", false),
		named("none", func(*networkingv1.Ingress) {}), named("svcplane", classed("svcplane")), named("alias", classed("alias")),
		named("nginx", classed("nginx")), named("gone", classed("gone")),
		named("legacy", annotated("svcplane")), named("legacy-nginx", annotated("nginx")))
	for name, isOurs := range map[string]bool{"none": true, "svcplane": true, "alias": true, "nginx": false, "gone": false, "legacy": true, "legacy-nginx": false} {
		if isOurs {
			w.answers(name, "/", 200, "a")
			w.hasAddresses(name, nodeAddr)
		} else {
			w.answers(name, "/", 404, "")
			w.hasAddresses(name, "")
		}
	}
	// an Ingress changes hands: its address is taken back; a class comes: its Ingresses are served
	w.updateIngress("svcplane", classed("nginx"))
	w.answers("svcplane", "/", 404, "")
	w.hasAddresses("svcplane", "")
	_, err := w.client.NetworkingV1().IngressClasses().Create(context.Background(), class("gone", "svcplane.io/ingress", false), metav1.CreateOptions{})
	w.must(err)
	w.answers("gone", "/", 200, "a")
	w.hasAddresses("gone", nodeAddr)
	// the default class is one no more
	w.must(w.client.NetworkingV1().IngressClasses().Delete(context.Background(), "svcplane", metav1.DeleteOptions{}))
	w.answers("none", "/", 404, "")
	w.hasAddresses("none", "")
}

// TestClassesOfOthers: the classes of the usual controllers are ours while nobody else has them, by field and by annotation.
func TestClassesOfOthers(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	field := anIngress("field", rule("field", path("/", networkingv1.PathTypePrefix, "a")))
	field.Spec.IngressClassName = ptr("nginx")
	named := anIngress("named", rule("named", path("/", networkingv1.PathTypePrefix, "a")))
	named.Annotations = map[string]string{annotations.ClassKey: "nginx"}
	lost := anIngress("lost", rule("lost", path("/", networkingv1.PathTypePrefix, "a")))
	lost.Spec.IngressClassName = ptr("internal")
	w := newWorld(t, service("a"), slice("a", a), field, named, lost)
	explained := func(host string) string {
		e, err := w.ingress.Explain(host)
		w.must(err)
		return strings.Join(e.NotServed, "\n")
	}
	for range 2 {
		for _, name := range []string{"field", "named"} {
			w.answers(name, "/", 200, "a")
			w.hasAddresses(name, nodeAddr)
			if got := explained(name); got != "" {
				t.Errorf("%s is served: %q", name, got)
			}
		}
		// another controller comes, with its class
		_, err := w.client.NetworkingV1().IngressClasses().Create(context.Background(), class("nginx", "k8s.io/ingress-nginx", false), metav1.CreateOptions{})
		w.must(err)
		for _, name := range []string{"field", "named"} {
			w.answers(name, "/", 404, "")
			w.hasAddresses(name, "")
			if got := explained(name); !containsAll(got, []string{"default/" + name, "nginx belongs to the controller k8s.io/ingress-nginx"}) {
				t.Errorf("%s is explained by %q", name, got)
			}
		}
		// and goes
		w.must(w.client.NetworkingV1().IngressClasses().Delete(context.Background(), "nginx", metav1.DeleteOptions{}))
	}
	w.answers("lost", "/", 404, "")
	if got := explained("lost"); !containsAll(got, []string{"default/lost", `"internal"`, "--ingress-classes"}) {
		t.Errorf("lost is explained by %q", got)
	}
	// one Event for the one that nobody serves, none for those that another controller had
	ofClass := class("ours", "svcplane.io/ingress", false)
	ofClass.Spec.Parameters = &networkingv1.IngressClassParametersReference{Kind: "Config", Name: "x"}
	_, err := w.client.NetworkingV1().IngressClasses().Create(context.Background(), ofClass, metav1.CreateOptions{})
	w.must(err)
	for _, e := range w.eventsUntil(2) {
		if !containsAll(e, []string{"ClassNotFound", "internal"}) && !containsAll(e, []string{"ParametersIgnored", "Config x"}) {
			t.Errorf("event %q", e)
		}
	}
	// and its class comes
	_, err = w.client.NetworkingV1().IngressClasses().Create(context.Background(), class("internal", "svcplane.io/ingress", false), metav1.CreateOptions{})
	w.must(err)
	w.answers("lost", "/", 200, "a")
}

func TestStatusIsWrittenOnceAndAgainOnConflict(t *testing.T) {
	foreign := toService("foreign")
	foreign.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "198.51.100.1"}}
	foreign.Spec.IngressClassName = ptr("nginx")
	w := newWorld(t, class("nginx", "k8s.io/ingress-nginx", false), foreign)
	var writes, conflicts atomic.Int32
	w.client.PrependReactor("update", "ingresses", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.GetSubresource() != "status" {
			return false, nil, nil
		}
		if writes.Add(1) <= 3 {
			conflicts.Add(1)
			return true, nil, apierrors.NewConflict(networkingv1.Resource("ingresses"), "toad", fmt.Errorf("changed"))
		}
		return false, nil, nil
	})
	w.createIngress(toService("toad"))
	w.hasAddresses("toad", nodeAddr)
	w.updateIngress("toad", func(ing *networkingv1.Ingress) { ing.Labels = map[string]string{"a": "b"} })
	w.createIngress(toService("later")) // its status comes after whatever the update above caused
	w.hasAddresses("later", nodeAddr)
	w.hasAddresses("foreign", "198.51.100.1")
	if conflicts.Load() != 3 || writes.Load() != 5 {
		t.Errorf("%d writes, %d of them conflicts; want 5 and 3", writes.Load(), conflicts.Load())
	}
}

// hopeless has one path that works and one of each kind that does not.
func hopeless() *networkingv1.Ingress {
	bad := anIngress("bad", rule("bad.test",
		path("/ok", networkingv1.PathTypePrefix, "a"),
		path("/missing", networkingv1.PathTypePrefix, "nobody"),
		path("/port", networkingv1.PathTypePrefix, "a:admin"),
		path("/external", networkingv1.PathTypePrefix, "external"),
		path("/100%", networkingv1.PathTypeImplementationSpecific, "a"),
		path("/ok", networkingv1.PathTypePrefix, "a"),
		networkingv1.HTTPIngressPath{Path: "/resource", PathType: ptr(networkingv1.PathTypePrefix),
			Backend: networkingv1.IngressBackend{Resource: &corev1.TypedLocalObjectReference{Kind: "Bucket", Name: "b"}}}))
	bad.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"bad.test"}, SecretName: "absent"}, {SecretName: "broken"}, {Hosts: []string{"bad.test"}, SecretName: "other"}}
	return bad
}

func TestProblemsBecomeEvents(t *testing.T) {
	external := service("external")
	external.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}
	_, a := endpointServer(t, says("a"))
	broken := tlsSecret(t, "broken", false, "bad.test")
	broken.Data[corev1.TLSPrivateKeyKey] = []byte("junk")
	younger := anIngress("younger", rule("bad.test", path("/ok", networkingv1.PathTypePrefix, "a")))
	younger.CreationTimestamp = metav1.Unix(2000, 0)
	w := newWorld(t, service("a"), slice("a", a), external, hopeless(), younger, broken, tlsSecret(t, "other", false, "other.test"))
	seen := w.eventsUntil(10)
	for _, want := range [][]string{
		{"Warning ServiceNotFound", "default/nobody", "create it"},
		{"Warning PortNotFound", "default/a", "admin", "http (80/TCP)"},
		{"Warning ServiceRefused", "default/external", "EndpointSlice"},
		{"Warning PathInvalid", "/100%", "correct"},
		{"Warning RouteConflict", "twice", "/ok"},
		{"Warning RouteConflict", "older Ingress default/bad", "/ok"},
		{"Warning ResourceRefused", "/resource", "service"},
		{"Warning SecretNotFound", "default/absent", "create"},
		{"Warning CertificateInvalid", "default/broken", "replace"},
		{"Warning CertificateMismatch", "default/other", "bad.test"},
	} {
		found := 0
		for _, e := range seen {
			if containsAll(e, want) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d events with %q in\n%s", found, want, strings.Join(seen, "\n"))
		}
	}
	w.answers("bad.test", "/ok", 200, "a") // everything else is served
	w.answers("bad.test", "/missing", 503, "")
	w.answers("bad.test", "/external", 503, "")
	w.answers("bad.test", "/resource", 404, "")

	// what was told is not told again; what is new is
	w.updateIngress("bad", func(ing *networkingv1.Ingress) {
		ing.Spec.Rules[0].HTTP.Paths = append(ing.Spec.Rules[0].HTTP.Paths, path("/more", networkingv1.PathTypePrefix, "nobody2"))
	})
	if more := w.eventsUntil(1); !containsAll(more[0], []string{"ServiceNotFound", "nobody2"}) {
		t.Errorf("told again: %q", more)
	}
	// and the cure is noticed
	_, err := w.client.CoreV1().Services("default").Create(context.Background(), service("nobody"), metav1.CreateOptions{})
	w.must(err)
	_, err = w.client.DiscoveryV1().EndpointSlices("default").Create(context.Background(), slice("nobody", a), metav1.CreateOptions{})
	w.must(err)
	w.answers("bad.test", "/missing", 200, "a /missing")
}

// eventsUntil collects n events.
func (w *world) eventsUntil(n int) []string {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	var seen []string
	for len(seen) < n {
		select {
		case e := <-w.events.Events:
			seen = append(seen, e)
		case <-deadline:
			w.t.Fatalf("%d of %d events:\n%s", len(seen), n, strings.Join(seen, "\n"))
		}
	}
	return seen
}

func TestServiceThatComesSoonIsNoEvent(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	w := newWorld(t)
	w.createIngress(toService("toad"))
	for _, create := range []func() error{
		func() error {
			_, err := w.client.CoreV1().Services("default").Create(context.Background(), service("toad"), metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := w.client.DiscoveryV1().EndpointSlices("default").Create(context.Background(), slice("toad", a), metav1.CreateOptions{})
			return err
		},
	} {
		w.must(create())
	}
	w.answers("toad", "/", 200, "a")
	w.createIngress(toService("never")) // its Event comes later than one for toad would
	if first := w.eventsUntil(1)[0]; !strings.Contains(first, "default/never") {
		t.Errorf("event %q", first)
	}
}

// TestStatusFollowsTheNode: its addresses change, and that of an Ingress of another controller stays.
func TestStatusFollowsTheNode(t *testing.T) {
	_, a := endpointServer(t, says("a"))
	foreign := anIngress("foreign", rule("two.test", path("/", networkingv1.PathTypePrefix, "a")))
	foreign.Spec.IngressClassName = ptr("theirs")
	foreign.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "198.51.100.1"}}
	w := newWorld(t, service("a"), slice("a", a), anIngress("x", rule("one.test", path("/", networkingv1.PathTypePrefix, "a"))), foreign)
	w.hasAddresses("x", nodeAddr)
	w.ingress.SetAddresses([]netip.Addr{netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::77")})
	w.hasAddresses("x", "192.0.2.77 2001:db8::77")
	w.hasAddresses("foreign", "198.51.100.1")
}
