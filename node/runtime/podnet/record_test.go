package podnet

import (
	"os"
	"testing"
)

// TestBrokenRecordIsBegunAnew: a power failure leaves files empty, and neither a start nor a cleanup may need hands then.
func TestBrokenRecordIsBegunAnew(t *testing.T) {
	for _, content := range []string{"", "{", "\x00\x00", `{"nextAddress": "x"}`} {
		dir := t.TempDir()
		if err := os.WriteFile(recordFile(dir), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := load(dir); err != nil || k.NextAddress != 0 || k.Routing.IPv4 != "" {
			t.Errorf("%q: %+v, %v", content, k, err)
		}
		if err := (kept{NextAddress: 7}).save(dir); err != nil {
			t.Fatal(err)
		}
		if k, err := load(dir); err != nil || k.NextAddress != 7 {
			t.Errorf("%q, written anew: %+v, %v", content, k, err)
		}
	}
}
