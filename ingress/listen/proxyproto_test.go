package listen

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

func TestProxyHeaders(t *testing.T) {
	v2 := func(command, family byte, body ...byte) string {
		b := append([]byte(proxyV2Start), 0x20|command, family)
		return string(append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...))
	}
	four := []byte{192, 0, 2, 9, 10, 0, 0, 1, 0x30, 0x39, 0, 80}
	six := make([]byte, 36)
	copy(six, netip.MustParseAddr("2001:db8::9").AsSlice())
	six[32], six[33] = 0x30, 0x39
	for in, want := range map[string]string{
		"PROXY TCP4 192.0.2.9 10.0.0.1 12345 80\r\nGET":          "192.0.2.9:12345 GET",
		"PROXY TCP6 2001:db8::9 ::1 12345 80\r\nGET":             "[2001:db8::9]:12345 GET",
		"PROXY UNKNOWN\r\nGET":                                   "invalid AddrPort GET",
		"PROXY UNKNOWN a b c d\r\nGET":                           "invalid AddrPort GET",
		"PROXY TCP4 192.0.2.9":                                   "more",
		"PRO":                                                    "more",
		"GET / HTTP/1.1":                                         "invalid AddrPort GET / HTTP/1.1",
		"PROXY TCP4 2001:db8::9 10.0.0.1 1 2\r\n":                "bad",
		"PROXY TCP4 192.0.2.9 10.0.0.1 123456 80\r\n":            "bad",
		"PROXY TCP4 192.0.2.9\r\n":                               "bad",
		"PROXY " + strings.Repeat("x", 120):                      "bad",
		v2(1, 0x11, four...) + "GET":                             "192.0.2.9:12345 GET",
		v2(1, 0x11, append(four, 4, 0, 1, 0)...) + "GET":         "192.0.2.9:12345 GET", // with a TLV
		v2(1, 0x21, six...) + "GET":                              "[2001:db8::9]:12345 GET",
		v2(0, 0x11, four...) + "GET":                             "invalid AddrPort GET", // LOCAL
		v2(1, 0x11, four[:4]...):                                 "bad",
		v2(7, 0x11, four...):                                     "bad",
		v2(1, 0x11, four...)[:20]:                                "more",
		string(proxyV2Start) + "\x11\x11\x00\x0c" + string(four): "bad", // another version
	} {
		src, n, err := parseProxyHeader([]byte(in))
		got := "bad"
		switch {
		case err == nil && n < 0:
			got = "more"
		case err == nil:
			got = src.String() + " " + in[n:]
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.9 10.0.0.1 12345 80\r\nGET"))
	f.Add(append([]byte(proxyV2Start), 0x21, 0x11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, n, err := parseProxyHeader(b)
		if n > len(b) || n < -1 {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		if len(b) >= proxyV2Max && n == -1 && err == nil {
			t.Fatal("it would wait for ever")
		}
	})
}
