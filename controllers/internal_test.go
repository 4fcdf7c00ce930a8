package controllers

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	metadatafake "k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/metadata/metadatainformer"
)

// A second watch of a resource costs the memory of all its objects once more.
func TestResourceInformersShareWhatRuns(t *testing.T) {
	typed := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	pods := typed.Core().V1().Pods().Informer()
	ctx, cancel := context.WithCancel(t.Context())
	typed.StartWithContext(ctx)
	defer typed.Shutdown()
	defer cancel()
	kinds := map[string]string{"pods": "Pod", "secrets": "Secret", "toads": "Toad"}
	r := &resourceInformers{
		typed:    typed,
		metadata: metadatainformer.NewSharedInformerFactory(metadatafake.NewSimpleMetadataClient(scheme.Scheme), 0),
		kindFor: func(r schema.GroupVersionResource) (schema.GroupVersionKind, error) {
			if kinds[r.Resource] == "" {
				return schema.GroupVersionKind{}, errors.New("unknown")
			}
			return r.GroupVersion().WithKind(kinds[r.Resource]), nil
		},
	}
	got, err := r.ForResource(corev1.SchemeGroupVersion.WithResource("pods"))
	if err != nil || got.Informer() != pods {
		t.Errorf("pods are followed twice (%v)", err)
	}
	for _, resource := range []schema.GroupVersionResource{
		corev1.SchemeGroupVersion.WithResource("secrets"),
		{Group: "example.com", Version: "v1", Resource: "toads"},
		{Group: "example.com", Version: "v1", Resource: "newts"}, // which the mapper does not know yet
	} {
		got, err := r.ForResource(resource)
		if err != nil || got.Informer() != r.metadata.ForResource(resource).Informer() {
			t.Errorf("%s are not followed as metadata (%v)", resource.Resource, err)
		}
	}
	if n := len(startedTypes(typed)); n != 1 {
		t.Errorf("%d typed informers, want the one of pods", n)
	}
}

func withDefaults(client *fake.Clientset, dns, node string) *Controllers {
	c := &Controllers{cfg: Config{
		Client: client, NodeName: "n", NodeAddrs: []netip.Addr{netip.MustParseAddr(node)}, DNSAddrs: []netip.Addr{netip.MustParseAddr(dns)}, IngressClass: true,
	}}
	c.nodeAddrs.Store(&c.cfg.NodeAddrs)
	return c
}

func TestDefaultsAreMadeOnceAndRepaired(t *testing.T) {
	client := fake.NewClientset()
	services := client.CoreV1().Services(metav1.NamespaceSystem)
	ensure := func(dns string) *corev1.Service {
		t.Helper()
		if err := withDefaults(client, dns, "192.0.2.1").ensureOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		svc, err := services.Get(t.Context(), DNSServiceName, metav1.GetOptions{})
		if err != nil || svc.Spec.ClusterIP != dns || svc.Labels[labelServiceProxyName] != DNSProxyName {
			t.Fatalf("kube-dns: %+v, %v", svc, err)
		}
		return svc
	}
	mine := ensure("10.96.0.10")
	mine.Annotations = map[string]string{"mine": "yes"}
	if _, err := services.Update(t.Context(), mine, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if again := ensure("10.96.0.10"); again.Annotations["mine"] != "yes" {
		t.Error("a Service that is right was replaced")
	}
	if moved := ensure("fd00:96::a"); moved.Spec.IPFamilies[0] != corev1.IPv6Protocol {
		t.Errorf("on the new address: %v", moved.Spec.IPFamilies)
	}
	endpoints, err := client.CoreV1().Endpoints(metav1.NamespaceSystem).Get(t.Context(), DNSServiceName, metav1.GetOptions{})
	if err != nil || endpoints.Subsets[0].Addresses[0].IP != "192.0.2.1" {
		t.Errorf("endpoints: %+v, %v", endpoints, err)
	}

	classes := client.NetworkingV1().IngressClasses()
	class, err := classes.Get(t.Context(), IngressClassName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	class.Annotations = nil // the user wants another default
	if _, err := classes.Update(t.Context(), class, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	ensure("fd00:96::a")
	if class, err = classes.Get(t.Context(), IngressClassName, metav1.GetOptions{}); err != nil || len(class.Annotations) != 0 {
		t.Errorf("the user's change of the IngressClass was undone: %v, %v", class.Annotations, err)
	}
}

// The class is the user's: it comes back when it is missing, and leaves the default to another one.
func TestStorageClassIsMadeWhereItIsMissing(t *testing.T) {
	client := fake.NewClientset()
	c := withDefaults(client, "10.96.0.10", "192.0.2.1")
	classes := client.StorageV1().StorageClasses()
	ensure := func(wantDefault string) *storagev1.StorageClass {
		t.Helper()
		if err := c.ensureOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		class, err := classes.Get(t.Context(), StorageClassName, metav1.GetOptions{})
		if err != nil || class.Annotations["storageclass.kubernetes.io/is-default-class"] != wantDefault {
			t.Fatalf("class %+v, %v; want default %s", class, err, wantDefault)
		}
		return class
	}
	if err := c.ensureOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list, err := classes.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
		t.Errorf("without a directory there are classes: %v, %v", list, err)
	}
	c.cfg.VolumesDir = "/volumes"
	class := ensure("true")
	class.Annotations["storageclass.kubernetes.io/is-default-class"] = "false"
	if _, err := classes.Update(t.Context(), class, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	ensure("false")
	if err := classes.Delete(t.Context(), StorageClassName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ensure("true")
	if err := classes.Delete(t.Context(), StorageClassName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	mine := storageClass(true)
	mine.Name, mine.Provisioner = "mine", "example.com/p"
	if _, err := classes.Create(t.Context(), mine, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ensure("false")
}

// The API refuses endpoints on loopback; a server that only has that must start all the same.
func TestDefaultsOnALoopbackNode(t *testing.T) {
	client := fake.NewClientset()
	if err := withDefaults(client, "10.96.0.10", "127.0.0.1").ensureOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := client.CoreV1().Endpoints(metav1.NamespaceSystem).Get(t.Context(), DNSServiceName, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("endpoints on loopback: %v", err)
	}
}

func TestContained(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name string
		ctx  context.Context
		run  func(context.Context) error
		want string // in the error; empty: none
	}{
		{"returns at the end", over, func(context.Context) error { return nil }, ""},
		{"returns too early", t.Context(), func(context.Context) error { return nil }, "controller x stopped by itself"},
		{"fails", t.Context(), func(context.Context) error { return errors.New("no luck") }, "controller x: no luck"},
		{"panics", t.Context(), func(context.Context) error { panic("oh") }, "controller x panicked: oh"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := contained(tc.ctx, "x", tc.run)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("contained = %v, want %q", err, tc.want)
			}
		})
	}
}
