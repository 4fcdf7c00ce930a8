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

// TestScripts runs all of them on the data plane that the server chooses, but where a script asks for one.
func TestScripts(t *testing.T) { runScripts(t, scriptFiles(t, "*"), os.Getenv("PROXY_MODE")) }

// TestScriptsOnIPTables runs those again that send traffic through Services.
func TestScriptsOnIPTables(t *testing.T) {
	runScripts(t, scriptFiles(t, "services", "dualstack", "rollout", "walk02_*", "walk05_*", "walk06_*", "walk07_*", "walk09_*"), "iptables")
}

// scriptFiles finds scripts by their names, without the extension.
func scriptFiles(t *testing.T, patterns ...string) []string {
	var all []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join("scripts", pattern+".txtar"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no script is called %s: %v", pattern, err)
		}
		all = append(all, files...)
	}
	return all
}

// runScripts runs scripts with a value for --proxy-mode, where there is one.
func runScripts(t *testing.T, files []string, mode string) {
	if os.Getuid() != 0 {
		t.Fatal("run as root, as make test does: the scripts make network namespaces and iptables rules")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	bins := build(t, root)
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                commands(),
		Setup:               func(env *testscript.Env) error { return setUp(env, root, bins, mode) },
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
