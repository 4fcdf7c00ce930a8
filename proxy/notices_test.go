package proxy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/record"

	"svcplane/catalog"
)

// TestNotices says what people get to read, and how seldom.
func TestNotices(t *testing.T) {
	key := catalog.Key{Namespace: "default", Name: "toad"}
	starved := testService(func(s *catalog.Service) { s.Selector, s.Ports[0].Endpoints = "app=taod", nil })
	nameless := testService(func(s *catalog.Service) {
		s.Selector, s.Ports[0].Endpoints = "app=toad", nil
		s.Hosts = []catalog.Endpoint{{AddrPort: netip.MustParseAddrPort("10.244.0.1:0")}}
	})
	served := testService(func(s *catalog.Service) { s.Hosts = s.Ports[0].Endpoints })
	for name, test := range map[string]struct {
		observe func(n notices)
		after   time.Duration
		want    string // "" for no Event
	}{
		"all is well":             {func(n notices) { n.observe(served, Node{}) }, time.Hour, ""},
		"a roll-out":              {func(n notices) { n.observe(starved, Node{}) }, time.Second, ""},
		"a selector":              {func(n notices) { n.observe(starved, Node{}) }, time.Minute, "Warning NoEndpoints no running pod matches the selector app=taod: compare it with kubectl -n default get pods --show-labels"},
		"a port name":             {func(n notices) { n.observe(nameless, Node{}) }, time.Minute, "Warning PortNotFound none of the 1 pods behind the service has a port for http 80/TCP"},
		"a roll-out that is over": {func(n notices) { n.observe(starved, Node{}); n.observe(served, Node{}) }, time.Minute, ""},
		"another proxy's": {func(n notices) {
			n.observe(testService(func(s *catalog.Service) { s.ForeignProxy = true }), Node{})
		}, time.Minute, ""},
		"a deleted service": {func(n notices) { n.observe(starved, Node{}); n.forget(key) }, time.Minute, ""},
		"refused by the kernel": {func(n notices) {
			n.observe(served, Node{})
			n.refused(key, errors.New("no such module"))
		}, 0, "no such module"},
		"refused, then accepted": {func(n notices) {
			n.observe(served, Node{})
			n.refused(key, errors.New("no such module"))
			n.accepted(key, nil)
		}, time.Minute, ""},
		"an address that another has": {func(n notices) {
			n.observe(served, Node{})
			n.accepted(key, []Refusal{{Kind: ExternalIP, Why: "port 80/TCP of 198.51.100.1 is taken"}, {Kind: ExternalIP, Why: "port 443/TCP of 198.51.100.1 is taken"}})
		}, 0, "Warning ExternalIPNotAvailable port 443/TCP of 198.51.100.1 is taken; port 80/TCP of 198.51.100.1 is taken"},
		"an address that another had": {func(n notices) {
			n.observe(served, Node{})
			n.accepted(key, []Refusal{{Kind: ExternalIP, Why: "port 80/TCP of 198.51.100.1 is taken"}})
			n.accepted(key, nil)
		}, time.Minute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n, recorder := notices{}, record.NewFakeRecorder(10)
			test.observe(n)
			now := time.Now().Add(test.after)
			n.report(recorder, now)
			n.report(recorder, now) // nothing new: nothing said
			close(recorder.Events)
			var got []string
			for event := range recorder.Events {
				got = append(got, event)
			}
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("said %q", got)
			case test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)):
				t.Errorf("said %q, want once %q", got, test.want)
			}
		})
	}
}
