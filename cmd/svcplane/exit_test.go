package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"svcplane/server/admin"
)

// invoke runs the program as main does.
func invoke(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(context.Background(), args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// endings says for each command how it ends where no server runs, given these arguments. server and cleanup would do things.
var endings = map[string]struct {
	args []string
	code int
}{
	"":                {nil, exitYes},
	"completion":      {nil, exitYes},
	"dns":             {nil, exitYes},
	"dns query":       {[]string{"web"}, exitNo},
	"image":           {nil, exitYes},
	"image alias":     {[]string{"a", "b"}, exitNo},
	"image export":    {[]string{"a", "nothing.tar"}, exitNo},
	"image prune":     {nil, exitYes},
	"image import":    {[]string{"a", "nothing.tar"}, exitNo},
	"image pull":      {[]string{"127.0.0.1:1/nothing"}, exitNo},
	"image list":      {nil, exitYes},
	"image rm":        {[]string{"a"}, exitNo},
	"ingress":         {nil, exitYes},
	"ingress explain": {[]string{"http://a/"}, exitNo},
	"ingress routes":  {nil, exitNo},
	"proxy":           {nil, exitYes},
	"proxy counters":  {nil, exitNo},
	"proxy diff":      {nil, exitNo},
	"proxy explain":   {[]string{"web"}, exitNo},
	"proxy show":      {nil, exitNo},
	"proxy switch":    {[]string{"ebpf"}, exitNo},
	"status":          {nil, exitNo},
	"version":         {nil, exitYes},
}

// ownWay are commands that are not run here, each with the reason.
var ownWay = map[string]string{
	"server":  "it would serve",
	"cleanup": "it would remove what is in the kernel",
	"install": "it would change the machine", "uninstall": "it would change the machine",
	"kubectl": "its flags and exit codes are kubectl's",

	"completion bash": "it prints a script", "completion fish": "it prints a script",
	"completion powershell": "it prints a script", "completion zsh": "it prints a script",
}

func TestEveryCommandEndsAlike(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	everyCommand(newRoot(), func(c *cobra.Command) {
		path := strings.TrimPrefix(strings.TrimPrefix(c.CommandPath(), "svcplane"), " ")
		words := strings.Fields(path)
		seen[path] = true
		how, known := endings[path]
		if _, other := ownWay[path]; !known && !other {
			t.Errorf("svcplane %s: nobody has said how it ends", path)
			return
		}
		check := func(want int, args ...string) {
			t.Helper()
			args = slices.Concat(words, args)
			if !slices.Contains(args, "--help") && !strings.HasPrefix(path, "completion") {
				args = append(args, "--data-dir", dir)
			}
			code, _, errOut := invoke(t, args...)
			if code != want || strings.Count(errOut, "\n") != min(1, want) {
				t.Errorf("svcplane %s: exit code %d and %q, want %d and a line if it is not 0", strings.Join(args, " "), code, errOut, want)
			}
		}
		if path != "kubectl" {
			check(exitWrong, "--no-such-flag")
			check(exitWrong, "too", "many", "arguments", "here")
			check(exitYes, "--help")
		}
		if known {
			check(how.code, how.args...)
		}
		if len(how.args) > 0 && c.HasParent() {
			check(exitWrong)
		}
	})
	for path := range maps.Keys(endings) {
		if !seen[path] {
			t.Errorf("there is no command svcplane %s", path)
		}
	}
}

func TestExitCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, exitYes},
		{failed{errors.New("it is not so")}, exitNo},
		{failed{fmt.Errorf("at: %w", admin.Blame(errors.New("no such type")))}, exitWrong},
		{errors.New("if any flags in the group [on off] are set none of the others can be"), exitWrong}, // cobra's, before it runs
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestMistypedWordsAreToldWithWhatIsMeant: one line each, which says what may have been meant, or how the command is written.
func TestMistypedWordsAreToldWithWhatIsMeant(t *testing.T) {
	dir := t.TempDir()
	config := dir + "/config.yaml"
	if err := os.WriteFile(config, []byte("nodename: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"stauts":                        `unknown command "stauts" for "svcplane": did you mean status?`,
		"nonsense":                      `unknown command "nonsense" for "svcplane": see svcplane --help`,
		"explain web":                   `did you mean svcplane ingress explain or svcplane proxy explain?`,
		"query web":                     `did you mean svcplane dns query?`,
		"dns routes":                    `did you mean svcplane ingress routes?`,
		"get pods":                      `did you mean svcplane kubectl get?`,
		"proxy shwo":                    `unknown command "shwo" for "svcplane proxy": did you mean show?`,
		"help proxy shwo":               `unknown command "shwo" for "svcplane proxy": did you mean show?`,
		"help stauts":                   `unknown command "stauts" for "svcplane": did you mean status?`,
		"image delete x":                `unknown command "delete" for "svcplane image": see svcplane image --help`,
		"completion bsh":                `unknown command "bsh" for "svcplane completion": did you mean bash?`,
		"proxy show --kernl":            `unknown flag: --kernl: did you mean --kernel?`,
		"status --datadir /x":           `unknown flag: --datadir: did you mean --data-dir?`,
		"server --node-nmae=a":          `unknown flag: --node-nmae: did you mean --node-name?`,
		"status -z":                     `unknown shorthand flag: 'z' in -z`,
		"proxy explain":                 `accepts 1 arg(s), received 0: it is written svcplane proxy explain ADDRESS:PORT`,
		"status extra":                  `svcplane status takes no arguments, and got ["extra"]`,
		"ingress explain http://[::1":   `"http://[::1" is no URL`,
		"proxy switch ebfp":             `["ebfp"]: say which data plane is to serve: iptables or ebpf`,
		"proxy counters --on --off":     `if any flags in the group [on off] are set none of the others can be; [off on] were all set`,
		"dns query web --from client":   `--from "client": must be pod/NAME`,
		"image import A:b: x.tar":       `reference "A:b:"`,
		"server --config " + config:     `unknown key "nodename": did you mean node-name?`,
		"server --config " + dir + "/x": `no such file`,
	} {
		code, out, errOut := invoke(t, append(strings.Fields(args), "--data-dir", dir)...)
		if code != exitWrong || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("svcplane %s: exit code %d, %q, %q; want 2 and %s", args, code, out, errOut, want)
		}
	}
}

// TestWhatNoMachineTakesIsTheCallersMistake: what this machine lacks may be there the next time.
func TestWhatNoMachineTakesIsTheCallersMistake(t *testing.T) {
	for flag, wrong := range map[string]bool{
		"--proxy-mode=ipvs":         true,
		"--disable=ingres":          true,
		"--service-cidr=10.96.0.0":  true,
		"--node-ip=203.0.113.9":     false,
		"--pod-cidr=192.0.2.0/24":   false,
		"--cluster-domain=not/a/na": true,
	} {
		o, _ := flags(t, flag)
		_, err := o.checkCall(lab())
		if err == nil || errors.As(err, new(admin.BadRequest)) != wrong {
			t.Errorf("%s: %v, want a mistake of the caller: %v", flag, err, wrong)
		}
	}
	o, _ := flags(t, "--disable=ingres")
	if _, err := o.checkCall(lab()); err == nil || !strings.Contains(err.Error(), "did you mean ingress?") {
		t.Error(err)
	}
}

// TestAFileIsNoImage: a file that is not there is no image that was mistyped.
func TestAFileIsNoImage(t *testing.T) {
	code, _, errOut := invoke(t, "image", "import", "svcplane/ecko", "nothing.tar", "--data-dir", t.TempDir())
	if code != exitNo || strings.Contains(errOut, "did you mean") {
		t.Error(code, errOut)
	}
}

func TestHelpTellsExitCodes(t *testing.T) {
	code, out, errOut := invoke(t, "help")
	if code != exitYes || !strings.Contains(strings.Join(strings.Fields(out), " "), "Exit codes: 0 it is so, or it was done 1 it is not so") {
		t.Errorf("%d, %q, %q", code, out, errOut)
	}
}
