package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// binaries are what the scripts drive, as absolute paths.
type binaries struct {
	svcplane, lanserver string
}

func TestScripts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("run as root, as make test does: the scripts make network namespaces and iptables rules")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	bins := build(t, root)
	testscript.Run(t, testscript.Params{
		Dir:                 "scripts",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                commands(),
		Setup:               func(env *testscript.Env) error { return setUp(env, root, bins) },
		Condition:           condition,
	})
}

// build returns the binaries that SVCPLANE_BIN and LANSERVER name (make test sets them), or has make build them: it
// knows the flags.
func build(t *testing.T, root string) binaries {
	t.Helper()
	bins := binaries{svcplane: os.Getenv("SVCPLANE_BIN"), lanserver: os.Getenv("LANSERVER")}
	if bins.svcplane != "" && bins.lanserver != "" {
		return bins
	}
	if out, err := exec.Command("make", "-C", root, "build", "bin/lanserver").CombinedOutput(); err != nil {
		t.Fatalf("building the binary: %v\n%s", err, out)
	}
	return binaries{svcplane: filepath.Join(root, "bin", "svcplane"), lanserver: filepath.Join(root, "bin", "lanserver")}
}

// condition knows [stock-kubectl]: a kubectl that is not ours is installed.
func condition(cond string) (bool, error) {
	if cond != "stock-kubectl" {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	_, err := exec.LookPath("kubectl")
	return err == nil, nil
}
