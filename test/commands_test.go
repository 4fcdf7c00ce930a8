package test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

type script = testscript.TestScript

// commands are what scripts may say beyond testscript's own (doc.go lists them).
func commands() map[string]func(*script, bool, []string) {
	cmds := map[string]func(*script, bool, []string){
		"server":      cmdServer,
		"sigterm":     func(ts *script, neg bool, args []string) { endServer(ts, neg, syscall.SIGTERM) },
		"kill9":       func(ts *script, neg bool, args []string) { endServer(ts, neg, syscall.SIGKILL) },
		"lanserver":   cmdLANServer,
		"registry":    cmdRegistry,
		"walkthrough": cmdWalkthrough,
		"tlssecret":   cmdTLSSecret,
		"until":       cmdUntil,
		"retry":       cmdRetry,
		"set":         cmdSet,
		"many":        cmdMany,
		"watch":       cmdWatch,
		"mark":        cmdMark,
		"unwatch":     cmdUnwatch,
		"snapshot":    cmdSnapshot,
		"exits":       cmdExits,
	}
	for _, name := range []string{"node", "lan", "pod", "kubectl", "svcplane"} {
		cmds[name] = func(ts *script, neg bool, args []string) { cmdRun(ts, neg, append([]string{name}, args...)) }
	}
	return cmds
}

// TestCommandsAreOurs holds that each command reaches our function: of two with one name testscript takes its own, and its
// "stop" ends a script as passed.
func TestCommandsAreOurs(t *testing.T) {
	called := map[string]bool{}
	cmds := map[string]func(*script, bool, []string){}
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(commands())) {
		cmds[name] = func(*script, bool, []string) { called[name] = true }
		fmt.Fprintln(&lines, name)
	}
	file := filepath.Join(t.TempDir(), "all.txtar")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("scripts", func(t *testing.T) { // which run in parallel, and are waited for here
		testscript.Run(t, testscript.Params{Files: []string{file}, Cmds: cmds})
	})
	for name := range cmds {
		if !called[name] {
			t.Errorf("a script that says %q does not get our command: testscript has one of that name, or one before it ended the script", name)
		}
	}
}

// usage ends the script if the condition that a command's arguments have to meet does not hold.
func usage(ts *script, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

// must runs a command that has to succeed and returns what it printed.
func must(ts *script, args ...string) string {
	out, errOut, err := labOf(ts).run(args, ts.MkAbs("."))
	if err != nil {
		ts.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, errOut)
	}
	return out
}

func cmdRun(ts *script, neg bool, args []string) {
	out, errOut, err := labOf(ts).run(args, ts.MkAbs("."))
	fmt.Fprint(ts.Stdout(), out)
	fmt.Fprint(ts.Stderr(), errOut)
	switch {
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	case err == nil && neg:
		ts.Fatalf("it succeeded")
	}
}

// cmdExits runs a command that has to end with one exit code.
func cmdExits(ts *script, neg bool, args []string) {
	usage(ts, !neg && len(args) > 1, "exits CODE CMD...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	out, errOut, err := labOf(ts).run(args[1:], ts.MkAbs("."))
	fmt.Fprint(ts.Stdout(), out)
	fmt.Fprint(ts.Stderr(), errOut)
	code := 0
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// cmdServer starts the server and waits for its ready line, or, negated, for the end that it has to come to.
func cmdServer(ts *script, neg bool, args []string) {
	l := labOf(ts)
	if l.server != nil && l.server.running() {
		ts.Fatalf("the server is running already")
	}
	if mode := l.mode; mode != "" && !strings.Contains(strings.Join(args, " "), "--proxy-mode") {
		args = append(args, "--proxy-mode="+mode)
	}
	p, err := l.start("server", slices.Concat([]string{"svcplane", "server", "--node-name", "node"}, args), ts.MkAbs("."))
	ts.Check(err)
	if neg {
		serverRefuses(ts, p)
		return
	}
	l.server = p
	deadline := time.Now().Add(60 * time.Second)
	for {
		out := ts.ReadFile(filepath.Join(l.dir, "server.out"))
		if strings.HasPrefix(out, "svcplane ready in ") && strings.HasSuffix(out, "\n") {
			fmt.Fprint(ts.Stdout(), out)
			return
		}
		if !p.running() || time.Now().After(deadline) {
			ts.Fatalf("no ready line (ended: %v); it printed %q\n%s", !p.running(), out, whatItDoes(ts))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// whatItDoes is what a server that does not come up says of itself: which part it waits for, and where.
func whatItDoes(ts *script) string {
	l, all := labOf(ts), ""
	for _, ask := range [][]string{
		{"svcplane", "status"},
		{"exec", "curl", "-sS", "--max-time", "10", "--unix-socket", filepath.Join(l.data(), "svcplane.sock"), "http://svcplane/debug/pprof/goroutine?debug=1"},
	} {
		out, errOut, err := l.run(ask, ts.MkAbs("."))
		all += fmt.Sprintf("%s: %v\n%s%s\n", strings.Join(ask, " "), err, out, errOut)
	}
	return all
}

// serverRefuses waits for a server that cannot start to say so: exit code 1, or 2 if its flags are wrong, nothing on standard
// output, and one line on standard error.
func serverRefuses(ts *script, p *process) {
	l := labOf(ts)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.end(syscall.SIGKILL)
		ts.Fatalf("it is still running after 30 s")
	}
	out, errOut := ts.ReadFile(filepath.Join(l.dir, "server.out")), ts.ReadFile(filepath.Join(l.dir, "server.err"))
	fmt.Fprint(ts.Stdout(), out)
	fmt.Fprint(ts.Stderr(), errOut)
	if code := p.cmd.ProcessState.ExitCode(); code != 1 && code != 2 {
		ts.Fatalf("exit code %d, want 1 or 2\n%s", code, errOut)
	}
	if out != "" || strings.Count(errOut, "\n") != 1 {
		ts.Fatalf("want nothing on standard output and one line on standard error, got %q and\n%s", out, errOut)
	}
}

func endServer(ts *script, neg bool, sig syscall.Signal) {
	l := labOf(ts)
	usage(ts, !neg && l.server != nil, "sigterm or kill9, after server")
	ts.Check(l.server.end(sig))
	l.server = nil
}

func cmdLANServer(ts *script, neg bool, args []string) {
	l := labOf(ts)
	usage(ts, !neg && len(args) == 0, "lanserver")
	p, err := l.start("lanserver", []string{"lan", l.bins.lanserver, ":5432"}, l.dir)
	ts.Check(err)
	l.lan = p
	repeat(ts, 10*time.Second, []string{"lan", "curl", "-sf", "http://192.0.2.2:5432/"}, succeeded)
}

func cmdRegistry(ts *script, neg bool, args []string) {
	l := labOf(ts)
	usage(ts, !neg && len(args) == 2 && l.lan == nil, "registry ARCHIVE NAME, instead of lanserver")
	p, err := l.start("registry", []string{"lan", l.bins.lanserver, "registry", "192.0.2.2:5000", "toad:hall", "400000", ts.MkAbs(args[0]), args[1]}, l.dir)
	ts.Check(err)
	l.lan = p
	repeat(ts, 10*time.Second, []string{"lan", "curl", "-sf", "-u", "toad:hall", "http://192.0.2.2:5000/v2/"}, succeeded)
}

func cmdWalkthrough(ts *script, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "walkthrough")
	cmdTLSSecret(ts, false, []string{"toad-tls", "toad.example.com"})
	must(ts, "kubectl", "apply", "-f", ts.Getenv("EXAMPLES")+"/walkthrough")
	for _, d := range []string{"toad", "bar"} {
		must(ts, "kubectl", "rollout", "status", "deployment/"+d, "--timeout=60s")
	}
	// a pod is ready a moment before every Service has heard of it
	for service, pods := range map[string]int{"toad-svc": 4, "bar-svc": 2} {
		vip := strings.TrimSpace(must(ts, "kubectl", "get", "service", service, "-o", "jsonpath={.spec.clusterIP}"))
		repeat(ts, 15*time.Second, askMany([]string{"node"}, "http://"+vip+"/hostname", 20*pods), func(a attempt) bool {
			return a.err == nil && len(answers(a.out)) == pods
		})
	}
}

func cmdTLSSecret(ts *script, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "tlssecret NAME HOST")
	key, crt := ts.MkAbs(args[0]+".key"), ts.MkAbs(args[0]+".crt")
	must(ts, "exec", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
		"-days", "2", "-subj", "/CN="+args[1], "-addext", "subjectAltName=DNS:"+args[1], "-keyout", key, "-out", crt)
	must(ts, "kubectl", "create", "secret", "tls", args[0], "--cert="+crt, "--key="+key)
}

// attempt is how one run of a command ended.
type attempt struct {
	out, errOut string
	err         error
}

func succeeded(a attempt) bool { return a.err == nil }

// repeat runs a command until ok says that it ended as it should, and leaves its output for stdout and stderr.
func repeat(ts *script, limit time.Duration, args []string, ok func(attempt) bool) {
	l, deadline := labOf(ts), time.Now().Add(limit)
	for {
		var a attempt
		a.out, a.errOut, a.err = l.run(args, ts.MkAbs("."))
		if ok(a) {
			fmt.Fprint(ts.Stdout(), a.out)
			fmt.Fprint(ts.Stderr(), a.errOut)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("not within %v: %s: %v\n[stdout]\n%s[stderr]\n%s", limit, strings.Join(args, " "), a.err, a.out, a.errOut)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func cmdUntil(ts *script, neg bool, args []string) {
	usage(ts, !neg && len(args) > 2, "until DURATION REGEX CMD...")
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	want, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	repeat(ts, limit, args[2:], func(a attempt) bool { return a.err == nil && want.MatchString(a.out) })
}

func cmdRetry(ts *script, neg bool, args []string) {
	usage(ts, !neg && len(args) > 1, "retry DURATION [!] CMD...")
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	if args[1] == "!" {
		repeat(ts, limit, args[2:], func(a attempt) bool { return a.err != nil })
		return
	}
	repeat(ts, limit, args[1:], succeeded)
}

func cmdSet(ts *script, neg bool, args []string) {
	usage(ts, !neg && len(args) > 1, "set VAR CMD...")
	value := strings.TrimSpace(must(ts, args[1:]...))
	if value == "" {
		ts.Fatalf("%s printed nothing", strings.Join(args[1:], " "))
	}
	ts.Setenv(args[0], value)
}

// cmdMany asks a URL that answers with the name of a pod, each time over a new connection.
func cmdMany(ts *script, neg bool, args []string) {
	usage(ts, !neg && len(args) > 3, "many N PODS WHERE... URL")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	pods, err := strconv.Atoi(args[1])
	ts.Check(err)
	usage(ts, missingOdds(n, pods) < 1e-9, "many N PODS WHERE... URL, with an N that lets chance miss no pod")
	where, url := args[2:len(args)-1], args[len(args)-1]
	out, errOut, err := labOf(ts).run(askMany(where, url, n), ts.MkAbs("."))
	if err != nil {
		ts.Fatalf("asking %s %d times: %v\n%s%s", url, n, err, out, errOut)
	}
	count, total := answers(out), 0
	for _, c := range count {
		total += c
	}
	if total != n || len(count) != pods {
		ts.Fatalf("%d answers from %d pods, want %d from %d: %v\n%s", total, len(count), n, pods, count, errOut)
	}
	for _, pod := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(ts.Stdout(), "%s %d\n", pod, count[pod])
	}
}

// missingOdds bounds the chance that one of so many pods, which are drawn evenly, is never met.
func missingOdds(asked, pods int) float64 {
	return float64(pods) * math.Pow(1-1/float64(pods), float64(asked))
}

// askMany is the command that asks a URL n times, each time over a new connection.
func askMany(where []string, url string, n int) []string {
	return slices.Concat(where, []string{"curl", "-sS", "--fail", "--max-time", "10", "-H", "Connection: close", "-w", `\n`,
		fmt.Sprintf("%s?[1-%d]", url, n)})
}

// answers counts the lines of an output that are not empty.
func answers(out string) map[string]int {
	count := map[string]int{}
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" {
			count[line]++
		}
	}
	return count
}

// watchLoop asks one URL after the other until the file $1.stop is there; each answer is a line of standard output.
const watchLoop = `while [ ! -e "$1.stop" ]; do
	answer=$(curl -s --fail --max-time 10 "$2") || answer="FAILED with exit code $?"
	echo "$answer"
done`

func cmdWatch(ts *script, neg bool, args []string) {
	l := labOf(ts)
	usage(ts, !neg && len(args) == 1 && l.watch == nil, "watch URL, once at a time")
	base := filepath.Join(l.dir, "watch")
	os.Remove(base + ".stop")
	p, err := l.start("watch", []string{"node", "bash", "-c", watchLoop, "watch", base, args[0]}, l.dir)
	ts.Check(err)
	l.watch = p
	// before anything is done to the server, the loop is known to get answers
	repeat(ts, 10*time.Second, []string{"exec", "grep", ".", base + ".out"}, succeeded)
}

// cmdMark writes a line into the answers, so that a script can tell what came before and after something that it did.
// It returns when an answer, or a failure, has come after the mark: a busy machine may have been asked nothing until then.
func cmdMark(ts *script, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "mark WORD")
	path, mark := filepath.Join(labOf(ts).dir, "watch.out"), fmt.Sprintf("MARK %s\n", args[0])
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	defer f.Close()
	_, err = f.WriteString(mark)
	ts.Check(err)
	for deadline := time.Now().Add(15 * time.Second); strings.HasSuffix(ts.ReadFile(path), mark); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("no answer after the mark")
		}
	}
}

// cmdUnwatch ends the loop, fails if an answer is missing, and leaves the answers and marks for stdout.
func cmdUnwatch(ts *script, neg bool, args []string) {
	l := labOf(ts)
	usage(ts, !neg && len(args) == 0 && l.watch != nil, "unwatch, after watch")
	ts.Check(os.WriteFile(filepath.Join(l.dir, "watch.stop"), nil, 0o600))
	select {
	case <-l.watch.done:
	case <-time.After(15 * time.Second):
		ts.Fatalf("the loop does not end")
	}
	l.watch = nil
	out := ts.ReadFile(filepath.Join(l.dir, "watch.out"))
	if failed := strings.Count(out, "FAILED"); failed > 0 {
		ts.Fatalf("%d of %d requests failed:\n%s", failed, strings.Count(out, "\n"), out)
	}
	fmt.Fprint(ts.Stdout(), out)
}

func cmdSnapshot(ts *script, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "snapshot FILE")
	out, err := labOf(ts).script("snapshot").Output()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out, 0o600))
}
