package server

import (
	"net/netip"
	"reflect"
	"testing"

	"svcplane/proxy"
	"svcplane/server/admin"
)

// TestNothingOfAnExplanationIsLost: what the proxy says of endpoints becomes steps like those before.
func TestNothingOfAnExplanationIsLost(t *testing.T) {
	at := netip.MustParseAddrPort("10.244.0.5:8080")
	got := dialExplanation(proxy.Explanation{
		Client: "the node", Address: "10.96.0.5:80/TCP", Action: "balance", Steps: []string{"the cluster IP"}, Kernel: []string{"here"},
		Choices: []proxy.EndpointFate{{Address: at, Pod: "shop/web", Takes: true, Why: "ready"}},
	})
	want := admin.Explanation{
		Part: "proxy", From: "the node", To: "10.96.0.5:80/TCP", Outcome: "balance", Kernel: []string{"here"}, Steps: []admin.Step{
			{Kind: admin.StepDecision, Why: "the cluster IP"},
			{Kind: admin.StepEndpoint, Endpoint: at, Pod: "shop/web", Chosen: true, Why: "ready"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
