package dns

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// TestStubDomains: names below a stub domain go to its servers and nowhere else; the longest domain counts.
func TestStubDomains(t *testing.T) {
	world := serveUpstream(t, 141, negative(dns.RcodeNameError))
	corp := serveUpstream(t, 142, negative(dns.RcodeNameError))
	lab := serveUpstream(t, 143, negative(dns.RcodeNameError))
	f := synced(t, Config{Stubs: map[string][]netip.AddrPort{"corp.example": {corp.addr}, "Lab.corp.example.": {lab.addr}}})
	f.forward.use([]netip.AddrPort{world.addr})
	for name, asked := range map[string]*fakeUpstream{
		"www.example.com.": world, "notcorp.example.": world, "corp.example.": corp, "www.CORP.example.": corp, "a.b.lab.corp.example.": lab,
	} {
		before := asked.udp.Load()
		all := world.udp.Load() + corp.udp.Load() + lab.udp.Load()
		if m := f.ask(t, name, dns.TypeA); m.Rcode != dns.RcodeNameError {
			t.Errorf("%s: %v", name, m)
		}
		if asked.udp.Load() != before+1 || world.udp.Load()+corp.udp.Load()+lab.udp.Load() != all+1 {
			t.Errorf("%s did not go to its server alone", name)
		}
	}
}

// TestAliasInsideTheCluster is followed without any upstream too.
func TestAliasInsideTheCluster(t *testing.T) {
	f := synced(t, Config{}, cluster()...)
	m := f.ask(t, "alias.default.svc.cluster.local.", dns.TypeA)
	if got := texts(m.Answer); m.Rcode != dns.RcodeSuccess || len(got) != 2 || got[1] != "dual.default.svc.cluster.local. 5 IN A 10.96.0.2" {
		t.Errorf("%v", m)
	}
}
