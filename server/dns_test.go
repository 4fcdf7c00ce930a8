package server

import (
	"slices"
	"testing"

	"svcplane/node/names"
)

func TestSearched(t *testing.T) {
	pod := names.Resolver{Searches: []string{"default.svc.cluster.local", "svc.cluster.local"}, Options: []string{"ndots:2"}}
	for name, want := range map[string][]string{
		"web":      {"web.default.svc.cluster.local", "web.svc.cluster.local", "web"},
		"a.b.c":    {"a.b.c", "a.b.c.default.svc.cluster.local", "a.b.c.svc.cluster.local"},
		"web.shop": {"web.shop.default.svc.cluster.local", "web.shop.svc.cluster.local", "web.shop"},
		"a.b.":     {"a.b."},
	} {
		if got := searched(name, pod); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := searched("web", names.Resolver{}); !slices.Equal(got, []string{"web"}) {
		t.Errorf("without a search path: %q", got)
	}
}
