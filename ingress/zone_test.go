package ingress

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestZone: the zone of the node decides about hinted endpoints, also when it changes.
func TestZone(t *testing.T) {
	_, east := endpointServer(t, says("east"))
	_, west := endpointServer(t, says("west"))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here", Labels: map[string]string{corev1.LabelTopologyZone: "west"}}}
	inZone := func(s *discoveryv1.EndpointSlice, zone string) *discoveryv1.EndpointSlice {
		s.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
		return s
	}
	w := newWorldWith(t, func(c *Config) { c.NodeName = "here" }, node, service("toad"), toService("toad"), inZone(slice("toad", east), "east"), inZone(slice("toad", west), "west"))
	only := func(want netip.AddrPort) func() error {
		return func() error {
			if got := w.ingress.Routes()[0].Endpoints; len(got) != 1 || got[0] != want {
				return fmt.Errorf("endpoints %v, want %v", got, want)
			}
			return nil
		}
	}
	w.eventually(only(west))
	w.answers("toad", "/", 200, "west")
	node = node.DeepCopy()
	node.Labels[corev1.LabelTopologyZone] = "east"
	_, err := w.client.CoreV1().Nodes().Update(context.Background(), node, metav1.UpdateOptions{})
	w.must(err)
	w.eventually(only(east))
	w.answers("toad", "/", 200, "east")
}
