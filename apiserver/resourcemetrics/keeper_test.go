package resourcemetrics

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregatorfake "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/fake"
	aggregatorinformers "k8s.io/kube-aggregator/pkg/client/informers/externalversions"
)

// TestKeeper: the group is registered while nobody else serves it, and again when that ends.
func TestKeeper(t *testing.T) {
	client, services := fake.NewClientset(), aggregatorfake.NewSimpleClientset()
	factory := aggregatorinformers.NewSharedInformerFactory(services, 0)
	k := &Keeper{Client: client, Services: services.ApiregistrationV1().APIServices(), Served: true,
		Informer: factory.Apiregistration().V1().APIServices().Informer()}
	factory.Start(t.Context().Done())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	local := func() bool {
		s, err := k.Services.Get(t.Context(), Name, metav1.GetOptions{})
		return err == nil && s.Spec.Service == nil
	}
	await(t, "it is registered", local)
	if _, err := client.RbacV1().ClusterRoles().Get(t.Context(), "system:aggregated-metrics-reader", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	theirs, err := k.Services.Get(t.Context(), Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	theirs.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: "kube-system", Name: "metrics-server"}
	if _, err := k.Services.Update(t.Context(), theirs, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := k.sync(t.Context()); err != nil || local() {
		t.Errorf("what somebody installed was replaced: %v", err)
	}
	if err := k.Services.Delete(t.Context(), Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "it is registered again", local)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	k.Served = false
	if err := k.sync(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := k.Services.Get(t.Context(), Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("nobody serves it, and it is registered: %v", err)
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never: %s", what)
		}
	}
}
