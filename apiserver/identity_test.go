package apiserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestIdentityIsNotMadeAnewInSilence takes each part of a data directory away: what makes the cluster this one is refused,
// with both ways out; what can be made again is made.
func TestIdentityIsNotMadeAnewInSilence(t *testing.T) {
	tests := []struct {
		name     string
		gone     []string
		external bool
		want     string // part of the error
		note     string // part of what is said
	}{
		{name: "nothing"},
		{name: "ca.key", gone: []string{"pki/ca.key"}, want: "pki/ca.key is gone"},
		{name: "ca.crt", gone: []string{"pki/ca.crt"}, want: "pki/ca.crt is gone"},
		{name: "the authority", gone: []string{"pki/ca.crt", "pki/ca.key"}, want: "the store with this cluster's objects is there"},
		{name: "all keys", gone: []string{"pki"}, want: "pki/ca.key is gone"},
		{name: "the store", gone: []string{"store"}, want: "store is gone"},
		{name: "the store and the kubeconfig", gone: []string{"store", "kubeconfig"}, want: "store is gone"},
		{name: "the store, which is elsewhere", gone: []string{"store"}, external: true},
		{name: "the store, before it was ever opened", gone: []string{"store", "kubeconfig", "runtime"}},
		{name: "store and keys", gone: []string{"store", "pki"}},
		{name: "everything", gone: []string{"store", "pki", "kubeconfig", "runtime"}},
		{name: "the kubeconfig", gone: []string{"kubeconfig"}},
		{name: "a certificate", gone: []string{"pki/admin.crt", "pki/apiserver.key"}},
		{name: "the key of tokens", gone: []string{"pki/service-account.key"}, note: "every token of a service account is void"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := EnsurePKI(PKIDir(dir), names("192.0.2.1"), names("192.0.2.1")); err != nil {
				t.Fatal(err)
			}
			for _, d := range []string{"store/etcd/member/wal", "runtime"} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(KubeconfigPath(dir), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, gone := range tt.gone {
				if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
					t.Fatal(err)
				}
			}
			notes, err := CheckIdentity(dir, tt.external)
			if said := strings.Join(notes, "\n"); (said == "") != (tt.note == "") || !strings.Contains(said, tt.note) {
				t.Errorf("it says %q, want %q", said, tt.note)
			}
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatalf("accepted, want %q", tt.want)
			}
			for _, part := range []string{tt.want, "put it back from a copy", "svcplane cleanup --data", "move"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v\nlacks %q", err, part)
				}
			}
		})
	}
}
