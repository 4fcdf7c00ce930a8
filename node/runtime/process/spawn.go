package process

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Filter is what seccomp(2) takes: struct sock_filter, one after the other.
type Filter struct {
	Flags   uint32 `json:"flags,omitempty"`
	Program []byte `json:"program"`
}

// filterInstruction is the size of struct sock_filter.
const filterInstruction = 8

// rawCall is one system call that a spawned child makes.
type rawCall struct {
	number uintptr
	args   [6]uintptr
	what   string  // that it is for; empty: it may fail
	least  uintptr // that it has to return
}

// execute is spawn's last call. Its errors, and those of a directory, are worded as ForkExec's are.
const execute = "execute"

// spawn forks the calling thread and has the child install a filter as the last thing before it executes the program. The
// filter cannot be on this thread already, as other restrictions are: it may refuse whatever the Go runtime does, which
// ends this process with all that it holds. So the child is a list of system calls, made without a runtime. With prepare it
// is the first of a PID namespace: see StartFirst.
func (c Command) spawn(path, dir string, env []string, credential *syscall.Credential, stdio [3]uintptr, tty bool, prepare func(int) error) (int, error) {
	var filter Filter
	if c.Filter != nil {
		filter = *c.Filter
	}
	list, err := newChildCalls(spawnSize(slices.Concat(c.Args, env, []string{path, dir}), len(filter.Program), len(credential.Groups)))
	if err != nil {
		return 0, err
	}
	defer list.close()
	files, err := ordinaryFiles()
	if err != nil {
		return 0, err
	}
	if procs, ok := c.Cgroup.Procs(); ok {
		list.add("enter its cgroup", unix.SYS_WRITE, procs, list.text("0"), 1)
	}
	ordinary := list.words(make([]uintptr, len(sigaction{}))) // SIG_DFL
	for signal := uintptr(1); signal <= 64; signal++ {
		list.add("", unix.SYS_RT_SIGACTION, signal, ordinary, 0, signalSetSize)
	}
	list.add("lead a session", unix.SYS_SETSID)
	if prepare != nil {
		if err := list.beFirst(prepare); err != nil {
			return 0, err
		}
	}
	if err := list.connect(stdio, tty); err != nil {
		return 0, err
	}
	list.add("set how many files it may open", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, list.limit(files), 0)
	if c.Users != nil {
		if prepare == nil {
			c.Users.enter(list)
		} else {
			list.between(c.Users, unix.CLONE_NEWPID, nil)
		}
		list.drop(c.DropCaps)
	}
	list.become(credential)
	list.add(execute, unix.SYS_CHDIR, list.text(dir))
	if len(filter.Program) > 0 && credential.Uid != 0 && !c.NoNewPrivs {
		list.add("be allowed to install the seccomp filter", unix.SYS_CAPSET, list.capabilityHeader(), list.onlySysAdmin())
	}
	list.add("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, list.words(make([]uintptr, 2)), 0, signalSetSize)
	if len(filter.Program) > 0 {
		list.add("install the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(filter.Flags), list.filter(filter.Program))
	}
	list.add(execute, unix.SYS_EXECVE, list.text(path), list.texts(c.Args), list.texts(env))
	return list.run()
}

const signalSetSize = 8 // octets in the kernel's sigset_t

// childCalls are the calls of a child, whose arguments lie in memory that does not move and that it shares with its parent.
type childCalls struct {
	mem    []byte
	used   uintptr
	calls  []rawCall
	copies []int     // descriptors of ours that the child gets
	flags  uintptr   // of clone(2)
	first  *first    // nil: the child is not
	before []rawCall // of a child between, whose child makes the others; none: there is none
}

// spawnReport is the beginning of that memory. It says of a call that failed; without writing to a pipe, which the filter
// may refuse.
type spawnReport struct {
	call  uint32 // the number in the list, from 1 on
	errno uint32
	// What a child between says: the number of the process that it has forked, or else which of its calls failed.
	pid, between uint32
}

// spawnSize is how much memory the arguments take, generously.
func spawnSize(texts []string, program, groups int) int {
	const word, others = int(unsafe.Sizeof(uintptr(0))), 4<<10 + callsSize
	size := others + program + 4*groups
	for _, text := range texts {
		size += len(text) + 3*word // the zero, what aligns the next, and a pointer
	}
	return size
}

// callsSize is enough for the calls themselves: one for each signal and capability, and some more.
const callsSize = 256 * int(unsafe.Sizeof(rawCall{}))

// shared gives the calls in the memory that the child has.
func (l *childCalls) shared(calls []rawCall) []rawCall {
	if len(calls) == 0 {
		return nil
	}
	at := l.used
	l.used += uintptr(len(calls)) * unsafe.Sizeof(rawCall{})
	list := unsafe.Slice((*rawCall)(unsafe.Pointer(&l.mem[at:l.used][0])), len(calls))
	copy(list, calls)
	return list
}

func newChildCalls(size int) (*childCalls, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map memory for a process: %w", err)
	}
	return &childCalls{mem: mem, used: unsafe.Sizeof(spawnReport{})}, nil
}

func (l *childCalls) report() *spawnReport { return (*spawnReport)(unsafe.Pointer(&l.mem[0])) }

func (l *childCalls) close() {
	l.first.close()
	for _, fd := range l.copies {
		unix.Close(fd)
	}
	unix.Munmap(l.mem)
}

func (l *childCalls) add(what string, number uintptr, args ...uintptr) {
	call := rawCall{number: number, what: what}
	copy(call.args[:], args)
	l.calls = append(l.calls, call)
}

// bytes puts octets into the memory and gives their address.
func (l *childCalls) bytes(b []byte) uintptr {
	const word = unsafe.Sizeof(uintptr(0))
	at := l.used
	copy(l.mem[at:at+uintptr(len(b))], b)
	l.used = (at + uintptr(len(b)) + word - 1) &^ (word - 1)
	return uintptr(unsafe.Pointer(&l.mem[0])) + at
}

func (l *childCalls) text(s string) uintptr { return l.bytes(append([]byte(s), 0)) }

func (l *childCalls) words(w []uintptr) uintptr {
	return l.bytes(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), len(w)*int(unsafe.Sizeof(uintptr(0)))))
}

func (l *childCalls) numbers(n []uint32) uintptr {
	return l.bytes(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(n))), len(n)*4))
}

// texts is a list of pointers with a zero at the end, as execve(2) has it.
func (l *childCalls) texts(list []string) uintptr {
	pointers := make([]uintptr, 0, len(list)+1)
	for _, s := range list {
		pointers = append(pointers, l.text(s))
	}
	return l.words(append(pointers, 0))
}

// filter is a struct sock_fprog. It begins with a number of 16 bits, which is a word as long as the machine is little-endian.
func (l *childCalls) filter(program []byte) uintptr {
	return l.words([]uintptr{uintptr(len(program) / filterInstruction), l.bytes(program)})
}

func (l *childCalls) capabilityHeader() uintptr {
	return l.numbers([]uint32{unix.LINUX_CAPABILITY_VERSION_3, 0})
}

// onlySysAdmin are the capabilities effective, permitted and inheritable of a user that is not root, until the exec, which
// takes them.
func (l *childCalls) onlySysAdmin() uintptr {
	const low, high = 1 << unix.CAP_SYS_ADMIN, 0
	return l.numbers([]uint32{low, low, 0, high, high, 0})
}

// limit is a struct rlimit64.
func (l *childCalls) limit(r unix.Rlimit) uintptr {
	return l.numbers([]uint32{uint32(r.Cur), uint32(r.Cur >> 32), uint32(r.Max), uint32(r.Max >> 32)})
}

// connect makes stdio the child's 0, 1 and 2, and with tty the first of them its terminal.
func (l *childCalls) connect(stdio [3]uintptr, tty bool) error {
	for to, from := range stdio {
		fd, err := unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 3) // none of those that are exchanged next
		if err != nil {
			return fmt.Errorf("copy a descriptor for a process: %w", err)
		}
		l.copies = append(l.copies, fd)
		l.add("connect its streams", unix.SYS_DUP3, uintptr(fd), uintptr(to), 0)
	}
	if tty {
		l.add("take its terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 1)
	}
	return nil
}

// become changes groups and user. Capabilities that the user does not have stay permitted for what is left to do.
func (l *childCalls) become(c *syscall.Credential) {
	l.add("set its groups", sysSetgroups, uintptr(len(c.Groups)), l.numbers(append(c.Groups[:len(c.Groups):len(c.Groups)], 0)))
	l.add("set its group", sysSetgid, uintptr(c.Gid))
	l.add("keep capabilities until the exec", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1)
	l.add("set its user", sysSetuid, uintptr(c.Uid))
}

// run forks, and waits until the child has executed the program or failed to.
func (l *childCalls) run() (int, error) {
	var pipe [2]int // whose end in the child closes with the exec
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, fmt.Errorf("make a pipe for a process: %w", err)
	}
	defer unix.Close(pipe[0])
	report, calls, before := l.report(), l.shared(l.calls), l.shared(l.before)
	var memory []region // as it is now: what comes later is copied
	if err := elsewhere(func() (err error) { memory, err = anonymousMemory("/proc/self/maps"); return err }); err != nil {
		unix.Close(pipe[1])
		return 0, err
	}
	fork := func() (uintptr, syscall.Errno) { return spawnChild(calls, report, l.flags, memory) }
	if len(before) > 0 {
		fork = func() (uintptr, syscall.Errno) { return spawnBetween(before, calls, report, memory) }
	}
	pid, err := forkWithoutSignals(fork)
	unix.Close(pipe[1])
	if err == nil && len(l.before) > 0 {
		pid, err = l.after(pid)
	}
	if err != nil {
		return 0, fmt.Errorf("fork a process: %w", err)
	}
	err = l.first.meet(pid)
	if err == nil {
		_, err = readRetry(pipe[0], make([]byte, 1))
	}
	if err != nil {
		killChild(pid)
		return 0, fmt.Errorf("start a process: %w", err)
	}
	runtime.KeepAlive(l)
	if report.call == 0 {
		return pid, nil
	}
	killChild(pid)
	errno := syscall.Errno(report.errno)
	if what := l.calls[report.call-1].what; what != execute {
		return 0, fmt.Errorf("%s: %w", what, errno)
	}
	return 0, errno
}

// spawnChild is the fork and all that the child does before the exec. It has no Go runtime: see forkInit.
//
//go:nosplit
//go:norace
//go:noinline
func spawnChild(calls []rawCall, report *spawnReport, flags uintptr, memory []region) (uintptr, syscall.Errno) {
	pid, errno := uintptr(0), syscall.Errno(0)
	withhold(memory, uintptr(unsafe.Pointer(&pid)), unix.MADV_DONTFORK)
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		withhold(memory, uintptr(unsafe.Pointer(&pid)), unix.MADV_DOFORK)
		return pid, errno
	}
	report.call, report.errno = makeCalls(calls)
	var nowhere *byte
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
		*nowhere = 0 // a filter may refuse even that; nothing refuses SIGSEGV
	}
}

// makeCalls makes a child's calls, and gives the number of one that fails, from 1 on, and why; 0 if none does.
//
//go:nosplit
//go:norace
//go:noinline
func makeCalls(calls []rawCall) (failed, why uint32) {
	for i := range calls {
		c := &calls[i]
		got, _, errno := syscall.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		if errno == 0 && got < c.least {
			errno = unix.EPIPE
		}
		if errno != 0 && len(c.what) > 0 {
			return uint32(i) + 1, uint32(errno)
		}
	}
	return 0, 0
}

// forkWithoutSignals calls fork while this thread gets no signal. In the child they stay blocked: the handlers that it
// inherits belong to a Go runtime that it has not.
func forkWithoutSignals(fork func() (uintptr, syscall.Errno)) (int, error) {
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, fmt.Errorf("block signals: %w", err)
	}
	syscall.ForkLock.Lock()
	pid, errno := fork()
	syscall.ForkLock.Unlock()
	restore := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	if errno != 0 {
		return 0, errno
	}
	if restore != nil {
		killChild(int(pid))
		return 0, errors.Join(errors.New("restore the signal mask"), restore)
	}
	return int(pid), nil
}
