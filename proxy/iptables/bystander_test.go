package iptables

import (
	"os/exec"
	"strings"
	"testing"

	"svcplane/proxy/proxytest"
)

// TestBystander: who has rules about packets that pass is named, and who has none, or others, is not.
func TestBystander(t *testing.T) {
	proxytest.NewLab(t)
	nft := func(text string) {
		t.Helper()
		if out, err := exec.Command("nft", text).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v\n%s", text, err, out)
		}
	}
	check := func(want string) {
		t.Helper()
		if got, err := Bystander(); err != nil || (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("it names %q, %v; want %q", got, err, want)
		}
	}
	check("")
	nft("add table ip svcplane-pods; add chain ip svcplane-pods postrouting { type nat hook postrouting priority srcnat; }; add rule ip svcplane-pods postrouting ip saddr 10.244.0.0/16 masquerade")
	nft("add table inet host; add chain inet host input { type filter hook input priority 0; policy drop; }; add chain inet host own; add rule inet host own drop")
	nft("add table inet empty; add chain inet empty forward { type filter hook forward priority 0; }")
	check("")
	nft("add rule inet empty forward ip saddr 198.51.100.9 drop")
	check("chain forward of nftables table empty")
	nft("delete table inet empty; add table ip6 closed; add chain ip6 closed forward { type filter hook forward priority 0; policy drop; }")
	check("table closed")
	nft("delete table ip6 closed; add chain ip svcplane-pods prerouting { type nat hook prerouting priority dstnat; }; add rule ip svcplane-pods prerouting tcp dport 8080 dnat to 10.244.0.11:80")
	check("chain prerouting of nftables table svcplane-pods")
	nft("delete table ip svcplane-pods")
	check("")
}
