package packaging

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// machine is a root with a systemctl that writes down what it is told.
type machine struct {
	Config
	t    *testing.T
	said bytes.Buffer
	log  string
}

const systemctlScript = `#!/bin/sh
echo "$*" >>"$SYSTEMCTL_LOG"
case "$1" in "$SYSTEMCTL_FAILS") echo "$1: not today" >&2; exit 1 ;; esac
`

func newMachine(t *testing.T, live bool) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, log: filepath.Join(dir, "log")}
	program := filepath.Join(dir, "svcplane")
	for path, text := range map[string]string{program: "version 1", filepath.Join(dir, "bin/systemctl"): systemctlScript} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	t.Setenv("SYSTEMCTL_LOG", m.log)
	m.Config = Config{Root: filepath.Join(dir, "root"), Binary: program, DataDir: "/var/lib/svcplane", Completion: []byte("complete"), Live: live, Out: &m.said}
	return m
}

func (m *machine) install() {
	m.t.Helper()
	if err := Install(m.t.Context(), m.Config); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) uninstall(purge bool) {
	m.t.Helper()
	if err := Uninstall(m.t.Context(), m.Config, func() error { return nil }, purge); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(m.at(path)), 0o755), os.WriteFile(m.at(path), []byte(text), 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(path string) string {
	m.t.Helper()
	raw, err := os.ReadFile(m.at(path))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(raw)
}

// files are those of the machine, with their contents: paths in order.
func (m *machine) files() (all []string) {
	m.t.Helper()
	err := filepath.WalkDir(m.Root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, strings.TrimPrefix(path, m.Root))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
	return all
}

// told is what systemctl was told since the last time.
func (m *machine) told() []string {
	raw, err := os.ReadFile(m.log)
	if err != nil {
		return nil
	}
	os.Remove(m.log)
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}

func TestInstallAndUninstall(t *testing.T) {
	m := newMachine(t, true)
	m.Now = true
	m.write("/etc/hosts", "others'")
	m.install()
	want := []string{ConfigPath, "/etc/hosts", unitPath, BinaryPath, listPath, completionPath}
	if got := m.files(); !slices.Equal(got, sorted(want)) {
		t.Errorf("installed %q, want %q", got, sorted(want))
	}
	if got, want := m.told(), []string{"daemon-reload", "enable svcplane.service", "reset-failed svcplane.service", "restart svcplane.service"}; !slices.Equal(got, want) {
		t.Errorf("systemctl was told %q, want %q", got, want)
	}
	if info, err := os.Stat(m.at(BinaryPath)); err != nil || info.Mode().Perm() != 0o755 || m.read(BinaryPath) != "version 1" {
		t.Errorf("the program: %v, %v", info, err)
	}
	if dir, err := m.Installed(); dir != "/var/lib/svcplane" || err != nil {
		t.Errorf("the data directory is %q, %v", dir, err)
	}
	m.uninstall(false)
	if got := m.files(); !slices.Equal(got, []string{"/etc/hosts"}) {
		t.Errorf("left: %q", got)
	}
	if _, err := os.Stat(m.at("/usr")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directories that install made are left: %v", err)
	}
	if got, want := m.told(), []string{"disable --now svcplane.service", "daemon-reload"}; !slices.Equal(got, want) {
		t.Errorf("systemctl was told %q, want %q", got, want)
	}
	m.uninstall(false) // of nothing
	if got := m.told(); got != nil {
		t.Errorf("systemctl was told %q", got)
	}
}

func sorted(s []string) []string { slices.Sort(s); return s }

func TestInstallTwiceIsAsOnce(t *testing.T) {
	m := newMachine(t, true)
	m.Now = true
	m.install()
	list := m.read(listPath)
	m.told()
	m.install()
	if got := m.told(); !slices.Contains(got, "start svcplane.service") || slices.Contains(got, "restart svcplane.service") {
		t.Errorf("nothing has changed, and systemctl was told %q", got)
	}
	if got := m.read(listPath); got != list {
		t.Errorf("the list was\n%sand is\n%s", list, got)
	}
	if err := os.WriteFile(m.Binary, []byte("version 2"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.Args, m.DataDir = []string{"--proxy-mode", "iptables"}, "/srv/svcplane"
	m.install()
	if got := m.told(); !slices.Contains(got, "restart svcplane.service") {
		t.Errorf("another version, and systemctl was told %q", got)
	}
	if m.read(BinaryPath) != "version 2" || !strings.Contains(m.read(unitPath), "--proxy-mode iptables\n") {
		t.Error("the new version is not in place")
	}
	if dir, err := m.Installed(); dir != "/srv/svcplane" || err != nil {
		t.Errorf("the data directory is %q, %v", dir, err)
	}
	m.uninstall(false)
	if got := m.files(); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

func TestWhatPeopleWroteStays(t *testing.T) {
	m := newMachine(t, true)
	m.write(ConfigPath, "node-name: edge\n")
	m.install()
	if got := m.read(ConfigPath); got != "node-name: edge\n" {
		t.Errorf("the config file is %q now", got)
	}
	m.uninstall(true)
	if got := m.files(); !slices.Equal(got, []string{ConfigPath}) {
		t.Errorf("left: %q", got)
	}
	os.Remove(m.at(ConfigPath))
	m.install()
	m.write(ConfigPath, "node-name: edge\n")
	m.uninstall(false)
	if got := m.files(); !slices.Equal(got, []string{ConfigPath}) {
		t.Errorf("left of a config file that was changed: %q", got)
	}
	os.Remove(m.at(ConfigPath))
	m.install()
	m.write(ConfigPath, "node-name: edge\n")
	m.uninstall(true)
	if got := m.files(); len(got) > 0 {
		t.Errorf("left by purge: %q", got)
	}

	m.write(unitPath, "[Service]\nExecStart=/opt/svcplane server\n")
	before := m.files()
	if err := Install(t.Context(), m.Config); err == nil || !strings.Contains(err.Error(), "systemctl edit svcplane") {
		t.Errorf("over a unit that was written by hand: %v", err)
	}
	if got := m.files(); !slices.Equal(got, before) {
		t.Errorf("a refusal wrote %q", got)
	}
}

func TestIntoAnImage(t *testing.T) {
	m := newMachine(t, false)
	m.install()
	if to, err := os.Readlink(m.at(wantsPath)); to != unitPath || err != nil {
		t.Errorf("the unit is not enabled: %q, %v", to, err)
	}
	m.install()
	if got := m.told(); got != nil {
		t.Errorf("systemctl was told %q", got)
	}
	m.uninstall(false)
	if got := m.files(); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

func TestAPackagesUnitIsLeftAlone(t *testing.T) {
	m := newMachine(t, false)
	m.write("/lib/systemd/system/svcplane.service", "the package's")
	if err := Install(t.Context(), m.Config); err == nil || !strings.Contains(err.Error(), "apt-get remove") {
		t.Errorf("beside a package: %v", err)
	}
}

// TestAFailureCanBeRepeated: what stops half way leaves a list of what it did, so that it can be done again or undone.
func TestAFailureCanBeRepeated(t *testing.T) {
	m := newMachine(t, true)
	t.Setenv("SYSTEMCTL_FAILS", "enable")
	if err := Install(t.Context(), m.Config); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Fatalf("systemctl fails: %v", err)
	}
	t.Setenv("SYSTEMCTL_FAILS", "disable")
	if err := Uninstall(t.Context(), m.Config, func() error { return nil }, false); err == nil || !strings.Contains(err.Error(), "stopping the server") {
		t.Errorf("a server that does not stop: %v", err)
	}
	t.Setenv("SYSTEMCTL_FAILS", "")
	busy := errors.New("busy")
	if err := Uninstall(t.Context(), m.Config, func() error { return busy }, false); !errors.Is(err, busy) {
		t.Errorf("a kernel that is not emptied: %v", err)
	}
	if _, err := os.Stat(m.at(BinaryPath)); err != nil {
		t.Errorf("the program that is to empty the kernel has gone: %v", err)
	}
	m.uninstall(false)
	if got := m.files(); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

func TestDamagedListRemovesNothing(t *testing.T) {
	m := newMachine(t, false)
	m.write("/etc/passwd", "precious")
	for _, line := range []string{"rubbish", strings.Repeat("0", 64) + "  ../etc/passwd", "x  /usr/../etc/passwd"} {
		m.write(listPath, line+"\n")
		if err := Uninstall(t.Context(), m.Config, func() error { return nil }, true); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%q: %v", line, err)
		}
	}
	m.read("/etc/passwd")
}

func TestQuote(t *testing.T) {
	for arg, want := range map[string]string{
		"--node-ip=192.0.2.1,2001:db8::1": "--node-ip=192.0.2.1,2001:db8::1",
		"":                                `""`,
		"a b":                             `"a b"`,
		"100%":                            "100%%",
		"$HOME":                           "$$HOME",
		`say "x\y"`:                       `"say \"x\\y\""`,
		";":                               `";"`,
		"two\nlines":                      `"two\nlines"`,
	} {
		if got := quote(arg); got != want {
			t.Errorf("%q is written %s, want %s", arg, got, want)
		}
	}
	if got := Unit([]string{"--v", "a b"}); !strings.Contains(got, "\nExecStart=/usr/local/bin/svcplane server --config /etc/svcplane/config.yaml --v \"a b\"\n") {
		t.Errorf("the unit is\n%s", got)
	}
}
