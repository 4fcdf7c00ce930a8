//go:build coredns

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestAnswersAreThoseOfCoreDNS: every difference has a reason. It needs root and what `make bench-dns` builds:
//
//	make test ROOM=bench/dns TESTFLAGS="-tags coredns"
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
			t.Fatalf("needs %s, which `make bench-dns` builds, or $%s", path, variable)
		}
		return path
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
