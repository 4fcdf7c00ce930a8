package dns

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestCacheIsBounded(t *testing.T) {
	c := newCache(64 << 10)
	now := testNow()
	key := func(i int) string { return fmt.Sprintf("name-%d", i) }
	for i := range 10000 {
		c.put(&cached{key: key(i), wire: make([]byte, 100), stored: now, life: time.Minute})
	}
	kept, octets := 0, 0
	for i := range c.shards {
		kept += len(c.shards[i].items)
		for _, item := range c.shards[i].items {
			octets += item.Value.(*cached).size()
		}
	}
	if octets > 64<<10 || kept < 50 {
		t.Errorf("%d answers, %d octets", kept, octets)
	}
	if found, fresh := c.get([]byte(key(9999)), now); found == nil || !fresh {
		t.Error("the newest is gone")
	}
}

func TestUpstreamsOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# servers\nnameserver 192.0.2.1\nsearch example.com\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\nnameserver 192.0.2.1\nnameserver nonsense\noptions ndots:1\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readResolvConf(path, "", []netip.Addr{netip.MustParseAddr("10.96.0.10")})
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("[fe80::1%eth0]:53")}
	if err != nil || !slices.Equal(got.servers, want) || !slices.Equal(got.searches, []string{"example.com"}) {
		t.Errorf("%v %v", got, err)
	}
}

// TestSystemdResolvedIsBypassed: not its stub is asked but whom it asks; without its file the stub has to do.
func TestSystemdResolvedIsBypassed(t *testing.T) {
	dir := t.TempDir()
	path, resolved := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "resolved")
	if err := os.WriteFile(path, []byte("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lab.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		behind string
		want   []netip.AddrPort
	}{
		{"", []netip.AddrPort{netip.MustParseAddrPort("127.0.0.53:53")}},
		{"nameserver 192.0.2.7\nnameserver 10.96.0.10\nnameserver 192.0.2.8\n", []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:53"), netip.MustParseAddrPort("192.0.2.8:53")}},
	} {
		if tt.behind != "" {
			if err := os.WriteFile(resolved, []byte(tt.behind), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := readResolvConf(path, resolved, []netip.Addr{netip.MustParseAddr("10.96.0.10")})
		if err != nil || !slices.Equal(got.servers, tt.want) || !slices.Equal(got.searches, []string{"lab.example"}) {
			t.Errorf("%+v %v", got, err)
		}
	}
}
