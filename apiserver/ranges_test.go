package apiserver

import (
	"net/netip"
	"strings"
	"testing"
)

func TestServiceCIDRsStayWhatTheyAre(t *testing.T) {
	four, six := netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")
	other := netip.MustParsePrefix("10.97.0.0/16")
	for _, c := range []struct {
		name    string
		stored  []string
		asked   []netip.Prefix
		refused bool
	}{
		{"the same", []string{"10.96.0.0/16"}, []netip.Prefix{four}, false},
		{"the same two", []string{"10.96.0.0/16", "fd00:96::/112"}, []netip.Prefix{four, six}, false},
		{"another", []string{"10.96.0.0/16"}, []netip.Prefix{other}, true},
		{"smaller", []string{"10.96.0.0/16"}, []netip.Prefix{netip.MustParsePrefix("10.96.0.0/20")}, true},
		{"one less", []string{"10.96.0.0/16", "fd00:96::/112"}, []netip.Prefix{four}, false},
		{"one more", []string{"10.96.0.0/16"}, []netip.Prefix{four, six}, false},
		{"another second", []string{"10.96.0.0/16", "fd00:96::/112"}, []netip.Prefix{four, netip.MustParsePrefix("fd00:97::/112")}, true},
	} {
		err := sameServiceCIDRs(c.stored, c.asked)
		if (err != nil) != c.refused {
			t.Errorf("%s: %v, want refused: %v", c.name, err, c.refused)
		}
		if remedy := "start with --service-cidr " + strings.Join(c.stored, ","); err != nil && !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: %q does not say %q", c.name, err, remedy)
		}
	}
}
