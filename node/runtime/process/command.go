package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/cgroup"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command is a process to be: what to run, as whom, connected to what.
type Command struct {
	Args       []string `json:"args"`
	Env        []string `json:"env,omitempty"` // NAME=value; PATH in it is where Args[0] is looked for
	Dir        string   `json:"dir,omitempty"` // "/" if empty
	User       User     `json:"user"`
	NoNewPrivs bool     `json:"noNewPrivs,omitempty"`
	DropCaps   []int    `json:"dropCaps,omitempty"` // numbers of capabilities(7) to take from the bounding set
	Filter     *Filter  `json:"filter,omitempty"`   // of system calls; nil: none
	// Users is the user namespace in which User and DropCaps are meant; nil: ours.
	Users *Users `json:"-"`
	// OOMScore is how much sooner than others, or later, the kernel ends the process when memory is short (proc_pid_oom_score_adj(5)).
	OOMScore *int `json:"oomScore,omitempty"`
	// Cgroup is where it starts; nil: where the one is that starts it.
	Cgroup *cgroup.Place `json:"-"`
}

// Start forks and executes the command from the calling thread (within OnThread): in its namespaces and
// root. stdio are the descriptors for 0, 1 and 2; with tty, 0 becomes the controlling terminal. The process
// leads a session of its own. The error names the file that was looked for.
func (c Command) Start(stdio [3]uintptr, tty bool) (int, error) { return c.start(stdio, tty, nil) }

// StartFirst is Start for the first process of a new PID namespace, with a /proc of that. prepare is called with its number
// when that is mounted and before the program is executed. Signals that the program does not handle do nothing to it
// (pid_namespaces(7)), and with it everything in its namespace ends.
func (c Command) StartFirst(stdio [3]uintptr, tty bool, prepare func(pid int) error) (int, error) {
	return c.start(stdio, tty, prepare)
}

func (c Command) start(stdio [3]uintptr, tty bool, prepare func(pid int) error) (int, error) {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return 0, errors.New("start process: the command is empty; give the container a command")
	}
	credential, home, err := c.User.resolve()
	if err != nil {
		return 0, err
	}
	env := withHome(c.Env, home)
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	path, err := lookPath(c.Args[0], dir, env)
	if err != nil {
		return 0, err
	}
	owner := credential.Uid
	if c.Users != nil {
		if owner, err = c.Users.IDs.Outside(owner); err != nil {
			return 0, err
		}
	}
	if err := giveStreams(stdio, owner); err != nil {
		return 0, err
	}
	if err := c.restrict(); err != nil {
		return 0, err
	}
	if err := c.Cgroup.Join(); err != nil {
		return 0, err
	}
	pid, err := forkScored(c.OOMScore, func() (int, error) {
		if c.Filter != nil || c.Users != nil || prepare != nil {
			return c.spawn(path, dir, env, credential, stdio, tty, prepare)
		}
		system := &syscall.SysProcAttr{Setsid: true, Setctty: tty, Credential: credential}
		system.CgroupFD, system.UseCgroupFD = c.Cgroup.Dir()
		return syscall.ForkExec(path, c.Args, &syscall.ProcAttr{Dir: dir, Env: env, Files: stdio[:], Sys: system})
	})
	if err != nil {
		return 0, fmt.Errorf("start %q in directory %q: %w", path, dir, err)
	}
	return pid, nil
}

// giveStreams makes the user the owner of pipes and terminals, but not of /dev/null, so that it can open /dev/stdout, as runc does.
func giveStreams(stdio [3]uintptr, uid uint32) error {
	for _, fd := range stdio {
		var stream unix.Stat_t
		if err := unix.Fstat(int(fd), &stream); err != nil {
			return fmt.Errorf("look at a stream of a process: %w", err)
		}
		if kind := stream.Mode & unix.S_IFMT; stream.Uid == uid || kind != unix.S_IFIFO && (kind != unix.S_IFCHR || stream.Rdev == unix.Mkdev(1, 3)) {
			continue
		}
		if err := unix.Fchown(int(fd), int(uid), -1); err != nil {
			return fmt.Errorf("give a stream to user %d: %w", uid, err)
		}
	}
	return nil
}

// restrict lowers what the calling thread, and so its child, may do.
func (c Command) restrict() error {
	if err := noInheritance(); err != nil {
		return err
	}
	for _, capability := range c.DropCaps {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	if c.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	return nil
}

// noInheritance takes what capabilities this process passes on to programs that have none of their own: a service manager may
// have given it some.
func noInheritance() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	sets[0].Inheritable, sets[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("clear inheritable capabilities: %w", err)
	}
	return nil
}

func getenv(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// withHome adds HOME and PATH where the container sets none, as other runtimes do.
func withHome(env []string, home string) []string {
	out := append([]string(nil), env...)
	if _, ok := getenv(out, "PATH"); !ok {
		out = append(out, "PATH="+defaultPath)
	}
	if _, ok := getenv(out, "HOME"); !ok {
		out = append(out, "HOME="+home)
	}
	return out
}

// lookPath finds an executable as execvp(3) would, in the calling thread's root.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if err := executable(path); err != nil {
			return "", fmt.Errorf("start %q: %w", name, err)
		}
		return path, nil
	}
	search, _ := getenv(env, "PATH")
	for _, folder := range filepath.SplitList(search) {
		if folder == "" {
			folder = dir
		}
		path := filepath.Join(folder, name)
		if executable(path) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("start %q: executable file not found in $PATH (%s): %w", name, search, fs.ErrNotExist)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return &os.PathError{Op: "exec", Path: path, Err: fs.ErrPermission}
	}
	return nil
}
