package serve

import (
	"net/netip"
	"testing"

	"svcplane/catalog"
	"svcplane/ingress/http1"
	"svcplane/ingress/route"
	"svcplane/ingress/upstream"
)

// TestFastpathDoesNotAllocate: finding a route and deciding under its policy is done in memory that the connection has.
func TestFastpathDoesNotAllocate(t *testing.T) {
	at := catalog.Endpoint{AddrPort: netip.MustParseAddrPort("127.0.0.1:9"), Ready: true, Serving: true}
	groups := upstream.NewGroupSet(upstream.Config{
		Get: func(catalog.Key) (*catalog.Service, bool) {
			return &catalog.Service{Ports: []catalog.Port{{Port: 80, Protocol: "TCP", Endpoints: []catalog.Endpoint{at}}}}, true
		},
		Closed: func(catalog.Key) string { return "" },
	})
	defer groups.Close()
	key := route.GroupKey{Port: route.PortRef{Number: 80}}
	groups.Acquire(key, route.Object{})
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for name, policy := range map[string]*route.Policy{
		"no policy": nil,
		"a policy": {Rewrite: &route.Rewrite{To: "/"}, CORS: &route.CORS{Origins: []string{"*"}}, Sticky: &route.Sticky{Cookie: "at"}, UpstreamHost: "other",
			Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, RequestHeaders: []route.HeaderField{{Name: "X-A", Value: "b"}}},
	} {
		r := &route.Route{Host: "h", Path: "/", Kind: route.Prefix, Policy: policy, Groups: []route.WeightedGroup{{GroupKey: key}}}
		var guard *Guard
		if policy != nil {
			guard = NewGuard(policy)
		}
		rules := &route.Rules[Route]{}
		rules.Add(r, NewRoute(r, groups.Group, guard, nil, nil, nil))
		s.Publish((&route.Table[Route]{}).With(map[string]*route.Rules[Route]{"h": rules}))
		bytes := []byte("GET /some/path?x=y HTTP/1.1\r\nHost: h\r\nCookie: at=1f\r\nOrigin: https://a.test\r\n\r\n")
		who := http1.Forwarded{Client: netip.MustParseAddr("192.0.2.1"), Proto: "http"}
		var head http1.RequestHead
		var j judged
		if n := testing.AllocsPerRun(1000, func() {
			if head.Parse(bytes) != http1.HeadPlain {
				t.Fatal("the head is not plain")
			}
			o, ok := s.fastpath(&s.plain, &head, "", &who, &j)
			if !ok {
				t.Fatal("the request is not for this way")
			}
			o.group.Requests.Leave()
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
