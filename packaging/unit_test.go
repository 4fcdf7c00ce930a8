package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSystemdReadsTheUnit: every line of the unit, with arguments that have to be quoted, means something to systemd.
func TestSystemdReadsTheUnit(t *testing.T) {
	for name, text := range map[string]string{"plain": Unit(nil), "with arguments": Unit([]string{"--node-name", "a b%c$d;", ""})} {
		// the program is not installed here, and verify sees to that
		text = strings.Replace(text, "ExecStart="+BinaryPath, "ExecStart=/bin/true", 1)
		if said := verify(t, text); said != "" {
			t.Errorf("%s: systemd-analyze says:\n%s", name, said)
		}
	}
	if said := verify(t, strings.Replace(unit, "KillMode=process", "KillMood=process", 1)); !strings.Contains(said, "KillMood") {
		t.Errorf("of a wrong key systemd-analyze says %q: this test sees nothing", said)
	}
}

// verify is what systemd-analyze (scripts/deps.sh test installs it) says of a unit.
func verify(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), unitName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// it leaves a file in /run/systemd
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none /run && exec systemd-analyze verify --man=no "$0"`, path)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=warning")
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatalf("systemd-analyze verify: %v", err)
	}
	var ours []string
	for line := range strings.Lines(string(out)) { // and not of units that this machine has
		if strings.Contains(line, unitName) || strings.Contains(line, path) {
			ours = append(ours, line)
		}
	}
	return strings.Join(ours, "")
}
