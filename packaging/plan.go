package packaging

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
)

//go:embed svcplane.service
var unit string

//go:embed config.yaml
var config string

// Where things go, below the root.
const (
	BinaryPath     = "/usr/local/bin/svcplane"
	ConfigPath     = "/etc/svcplane/config.yaml"
	unitName       = "svcplane.service"
	unitPath       = "/etc/systemd/system/" + unitName
	wantsPath      = "/etc/systemd/system/multi-user.target.wants/" + unitName
	completionPath = "/usr/local/share/bash-completion/completions/svcplane"
	listPath       = "/usr/local/lib/svcplane/installed"
)

// distributionUnits are where a distribution's package has its unit.
var distributionUnits = []string{"/lib/systemd/system/" + unitName, "/usr/lib/systemd/system/" + unitName}

// file is one that is to be there.
type file struct {
	path     string
	contents []byte
	mode     os.FileMode
	link     string // a symbolic link to that, instead of contents
	theirs   bool   // once it is there it is the machine's owner's
}

// plan is what a machine with svcplane has.
func (c *Config) plan(binary []byte) []file {
	files := []file{
		{path: BinaryPath, contents: binary, mode: 0o755},
		{path: ConfigPath, contents: []byte(config), mode: 0o644, theirs: true},
		{path: unitPath, contents: []byte(Unit(c.Args)), mode: 0o644},
		{path: completionPath, contents: c.Completion, mode: 0o644},
	}
	if !c.Live { // what `systemctl enable` does
		files = append(files, file{path: wantsPath, link: unitPath})
	}
	return files
}

// Unit is the unit of a server with more arguments than its config file.
func Unit(args []string) string {
	command := "ExecStart=" + BinaryPath + " server --config " + ConfigPath
	if !strings.Contains(unit, command+"\n") {
		panic(fmt.Sprintf("svcplane.service has no line %q", command)) // it is part of this program
	}
	full := command
	for _, arg := range args {
		full += " " + quote(arg)
	}
	return strings.Replace(unit, command+"\n", full+"\n", 1)
}

// quote writes an argument as systemd.service(5), "Command lines", reads it.
func quote(arg string) string {
	arg = strings.NewReplacer("%", "%%", "$", "$$").Replace(arg)
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=,@+%$", r)
	}
	if arg != "" && strings.IndexFunc(arg, func(r rune) bool { return !plain(r) }) < 0 {
		return arg
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(arg) + `"`
}
