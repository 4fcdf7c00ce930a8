package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/informers"

	"svcplane/node/resources"
)

// TestGrantedIsKnownBeforeWorkersLook: after a start, pods count with what the disk says that they were given, though their workers
// have not looked yet, and pods that have ended do not count.
func TestGrantedIsKnownBeforeWorkersLook(t *testing.T) {
	cpu := func(amount string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(amount)}
		}
	}
	asks, waits := pod("asks", cpu("2")), pod("waits", cpu("1"))
	ended := pod("ended", cpu("1"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	l := newLab(t)
	l.cfg.Factory = informers.NewSharedInformerFactory(l.client, 0)
	n, err := New(l.cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*corev1.Pod{asks, waits, ended} {
		if err := n.pods.GetStore().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	given := resources.Asked(pod("asks", cpu("300m")))
	if err := n.saveGrants(asks, &grants{Allocated: given, Actuated: given}); err != nil {
		t.Fatal(err)
	}
	others := n.granted(waits.UID)
	if len(others) != 1 || others[0].UID != asks.UID {
		t.Fatalf("%d pods count, want asks alone", len(others))
	}
	if has := others[0].Spec.Containers[0].Resources.Requests.Cpu().String(); has != "300m" {
		t.Errorf("it counts with %s, want the 300m that it was given", has)
	}
}
