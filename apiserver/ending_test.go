package apiserver

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"svcplane/apiserver/store"
)

// endingDir tells a copy of the test that it is the process with the server, and where its files belong.
const endingDir = "SVCPLANE_TEST_ENDING_DIR"

// TestEndsWhileItStarts asks a server to end before it serves. In a process of its own: upstream's way to fail is to end that.
func TestEndsWhileItStarts(t *testing.T) {
	dir := os.Getenv(endingDir)
	if dir == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestEndsWhileItStarts$")
		cmd.Env = append(os.Environ(), endingDir+"="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("a server that ends while it starts: %v\n%s", err, out)
		}
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := EnsurePKI(filepath.Join(dir, "pki"), names("127.0.0.1"), names("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := store.Open(ctx, filepath.Join(dir, "store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(ctx, Config{
		PKI: p, Store: opened, Listener: listener, Kubeconfig: filepath.Join(dir, "kubeconfig"),
		NodeIP: netip.MustParseAddr("192.0.2.1"), ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		NodePorts: "30000-32767", Domain: "cluster.local", KubeletPort: 10250,
	})
	if err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(ctx)
	stop()
	if err := s.Run(run); err != nil {
		t.Errorf("stopping: %v", err)
	}
}
