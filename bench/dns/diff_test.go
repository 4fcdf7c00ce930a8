package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestAnswersAreThoseOfCoreDNS: every difference has a reason. It needs both binaries and root.
func TestAnswersAreThoseOfCoreDNS(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	find := func(variable, name string) string {
		path := os.Getenv(variable)
		if path == "" {
			path = filepath.Join(root, "bin", name)
		}
		if _, err := os.Stat(path); err != nil {
			t.Skipf("needs %s, which `make bench-dns` builds, or $%s", path, variable)
		}
		return path
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	coredns, server := find("COREDNS", "coredns"), find("SVCPLANE_BIN", "svcplane")
	tool := filepath.Join(t.TempDir(), "benchdns")
	if out, err := exec.Command("go", "build", "-o", tool, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command("./diff.sh")
	cmd.Env = append(os.Environ(), "COREDNS="+coredns, "SVCPLANE_BIN="+server, "TOOL="+tool)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}
