package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// commandTimeout ends a command that hangs: longer than any that a script waits for.
const commandTimeout = 90 * time.Second

// lab is the pair of namespaces of one script, and what runs in it.
type lab struct {
	bins   binaries
	root   string // the repository
	name   string // prefix of the namespaces
	dir    string // scratch, with the data directory in it
	mode   string // for --proxy-mode; empty: the default
	server *process
	lan    *process
	watch  *process
	getenv func(string) string
}

// process is something that runs in the background of a script.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// reporter is what testscript's T is underneath: a *testing.T.
type reporter interface {
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
	Failed() bool
}

type labKey struct{}

// labOf returns the lab of a script, with the variables that the script has set by now.
func labOf(ts *testscript.TestScript) *lab {
	l := ts.Value(labKey{}).(*lab)
	l.getenv = ts.Getenv
	return l
}

// setUp makes the namespaces of a script, and sees to it that they are gone at its end.
func setUp(env *testscript.Env, root string, bins binaries, mode string) error {
	dir, err := os.MkdirTemp("", "svcplane-lab.") // and not below $WORK: the path of a unix socket has to be short
	if err != nil {
		return err
	}
	l := &lab{bins: bins, root: root, dir: dir, mode: mode, name: fmt.Sprintf("lab-%08x", rand.Uint32()), getenv: env.Getenv}
	env.Values[labKey{}] = l
	report := env.T().(reporter)
	env.Defer(func() {
		l.getenv = env.Getenv // what the script set is its own affair
		l.tearDown(report)
	})
	if out, err := l.script("up").CombinedOutput(); err != nil {
		return fmt.Errorf("making the namespaces: %w: %s", err, out)
	}
	for key, value := range map[string]string{
		"LAB": l.name, "DATA": l.data(), "NODE_IP": "192.0.2.1", "LAN_IP": "192.0.2.2", "DNS": "10.96.0.10",
		"ZONE": "default.svc.cluster.local", "EXAMPLES": filepath.Join(root, "examples"), "SVCPLANE": bins.svcplane,
		"LANSERVER": bins.lanserver, "LAB_DIR": dir, "REPO": root, "USER_HOME": os.Getenv("HOME"),
		"SVCPLANE_DATA_DIR": l.data(), "LC_ALL": "C",
	} {
		env.Setenv(key, value)
	}
	env.Setenv("PATH", env.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	return nil
}

func (l *lab) data() string { return filepath.Join(l.dir, "data") }

// script is a call of scripts/lab.sh for this lab.
func (l *lab) script(verb string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(l.root, "scripts", "lab.sh"), verb)
	cmd.Env = append(os.Environ(), "LAB="+l.name, "LAB_DIR="+l.dir, "SVCPLANE_BIN="+l.bins.svcplane)
	return cmd
}

// tearDown ends what runs and removes every trace; what it cannot remove, or what was left, fails the script.
func (l *lab) tearDown(report reporter) {
	if report.Failed() {
		for _, log := range []string{"server.out", "server.err"} {
			report.Logf("%s ends with:\n%s", log, tail(filepath.Join(l.dir, log), 60))
		}
	}
	for _, p := range []*process{l.watch, l.lan} {
		if p != nil {
			p.end(syscall.SIGKILL)
		}
	}
	if l.server != nil && l.server.running() {
		if err := l.server.end(syscall.SIGTERM); err != nil {
			report.Errorf("stopping the server: %v; server.err ends with:\n%s", err, tail(filepath.Join(l.dir, "server.err"), 60))
		}
	}
	podnets, err := l.script("podnets").Output()
	if err != nil {
		report.Errorf("listing the namespaces of the pods: %v", err)
	}
	if _, err := os.Stat(l.data()); err == nil {
		if out, err := l.command("svcplane", "cleanup", "--data").CombinedOutput(); err != nil {
			report.Errorf("svcplane cleanup --data: %v: %s", err, out)
		}
	}
	if out, err := l.script("leftovers").CombinedOutput(); err != nil || len(out) > 0 {
		report.Errorf("processes are left (%v):\n%s", err, out)
	}
	for _, file := range strings.Fields(string(podnets)) {
		if _, err := os.Lstat(file); err == nil {
			report.Errorf("the network namespace %s is left", file)
			exec.Command("ip", "netns", "del", filepath.Base(file)).Run()
		}
	}
	if mounts := mountsBelow(l.dir); len(mounts) > 0 {
		report.Errorf("mounts are left:\n%s", strings.Join(mounts, "\n"))
	}
	if out, err := l.script("down").CombinedOutput(); err != nil {
		report.Errorf("removing the namespaces: %v: %s", err, out)
	}
}

func mountsBelow(dir string) []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			found = append(found, fields[4])
		}
	}
	return found
}

// words turns a command of a script into the words to execute.
func (l *lab) words(args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, errors.New("no command")
	}
	name, rest := args[0], args[1:]
	enter := func(side string) []string {
		if with := l.getenv("ENTER"); with != "" {
			return append(strings.Fields(with), l.name+"-"+side)
		}
		return []string{"/usr/bin/nsenter", "--net=/run/netns/" + l.name + "-" + side, "--"}
	}
	switch name {
	case "node", "lan":
		return append(enter(name), rest...), nil
	case "kubectl":
		return append(enter("node"), slices.Concat([]string{l.bins.svcplane, "kubectl"}, rest)...), nil
	case "svcplane":
		return append(enter("node"), slices.Concat([]string{l.bins.svcplane}, rest)...), nil
	case "pod":
		if len(rest) < 2 {
			return nil, errors.New("usage: pod POD CMD")
		}
		return append(enter("node"), slices.Concat([]string{l.bins.svcplane, "kubectl", "exec", rest[0], "--"}, rest[1:])...), nil
	case "exec":
		return rest, nil
	}
	return nil, fmt.Errorf("%q is none of node, lan, pod, kubectl, svcplane, exec", name)
}

// command is a call of the binary, for the harness itself.
func (l *lab) command(args ...string) *exec.Cmd {
	words, err := l.words(args)
	if err != nil {
		panic(err) // the harness wrote it
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = l.environ()
	return cmd
}

// environ is what commands see: the script's own choice of these, and nothing of the machine's.
func (l *lab) environ() []string {
	env := []string{"HOME=" + l.dir, "LC_ALL=C", "TMPDIR=/tmp", "TERM=dumb"}
	for _, key := range []string{"PATH", "SVCPLANE_DATA_DIR", "KUBECONFIG", "WORK", "LAB", "SVCPLANE", "REPO", "NOTIFY_SOCKET", "WATCHDOG_USEC"} {
		if value := l.getenv(key); value != "" {
			env = append(env, key+"="+value)
		}
	}
	return env
}

// run executes a command of a script to its end.
func (l *lab) run(args []string, dir string) (stdout, stderr string, err error) {
	words, err := l.words(args)
	if err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env, cmd.Dir = l.environ(), dir
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("ended after %v: %w", commandTimeout, ctx.Err())
	}
	return out.String(), errOut.String(), err
}

// start runs words in the background with its output in files of the lab's directory: NAME.out and NAME.err.
func (l *lab) start(name string, args []string, dir string) (*process, error) {
	words, err := l.words(args)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env, cmd.Dir = l.environ(), dir
	out, err := os.OpenFile(filepath.Join(l.dir, name+".out"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	errOut, err := os.OpenFile(filepath.Join(l.dir, name+".err"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer errOut.Close()
	cmd.Stdout, cmd.Stderr = out, errOut
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end sends the signal and waits; an exit code other than 0 after SIGTERM is an error.
func (p *process) end(sig syscall.Signal) error {
	p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("still running 30 s after %v", sig)
	}
	if code := p.cmd.ProcessState.ExitCode(); sig == syscall.SIGTERM && code != 0 {
		return fmt.Errorf("%v after %v, want exit code 0", p.cmd.ProcessState, sig)
	}
	return nil
}

// tail returns the last lines of a file.
func tail(file string, lines int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
