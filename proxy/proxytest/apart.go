package proxytest

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// apartEnv names the test that a process was started for.
const apartEnv = "SVCPLANE_PROXYTEST_APART"

var verdictLine = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (\S+) \(`)

// Apart runs the test that calls it in a process and network namespace of its own, beside others that do: what
// they do most is wait. It returns false in that process, where the test goes on, and true in the first, where
// the subtests have been reported and nothing is left to do.
func Apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(apartEnv) == t.Name() {
		return false
	}
	t.Parallel()
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run="+pattern, "-test.v")
	cmd.Env = append(os.Environ(), apartEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	for _, m := range verdictLine.FindAllStringSubmatch(string(out), -1) {
		verdict, name := m[1], strings.TrimPrefix(m[2], t.Name()+"/")
		if name == m[2] {
			continue // the test itself
		}
		t.Run(name, func(t *testing.T) {
			if verdict == "FAIL" {
				t.Error("failed in its own process")
			}
		})
	}
	if err != nil {
		t.Error(fmt.Errorf("%w\n%s", err, out))
	}
	return true
}

// InChild says whether this process was started by Apart.
func InChild() bool { return os.Getenv(apartEnv) != "" }
