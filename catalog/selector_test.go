package catalog

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSelectorAsText(t *testing.T) {
	for want, selector := range map[string]map[string]string{
		"":                  nil,
		"app=toad,tier=web": {"tier": "web", "app": "toad"},
	} {
		if got := Build(&corev1.Service{Spec: corev1.ServiceSpec{Selector: selector}}, nil).Selector; got != want {
			t.Errorf("selector %v: got %q, want %q", selector, got, want)
		}
	}
}
