package process

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// IDs are the numbers that users and groups 0, 1, ... of a user namespace have outside of it.
type IDs struct {
	Base  uint32 `json:"base"`
	Count uint32 `json:"count"`
}

// Outside gives the number of a user or group inside.
func (i IDs) Outside(id uint32) (uint32, error) {
	if id >= i.Count {
		return 0, fmt.Errorf("user or group %d is not in the pod's user namespace, which has those below %d", id, i.Count)
	}
	return i.Base + id, nil
}

// Users is a user namespace that processes are started in; nil is this process's own.
type Users struct {
	File *os.File
	IDs  IDs
}

// UsersOf is the user namespace of a process, nil if it is ours.
func UsersOf(pid int) (*Users, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return nil, fmt.Errorf("open a user namespace: %w", err)
	}
	u := &Users{File: file}
	own, err := os.Stat("/proc/self/ns/user")
	if err == nil {
		var theirs os.FileInfo
		if theirs, err = file.Stat(); err == nil && os.SameFile(own, theirs) {
			u.Close()
			return nil, nil
		}
	}
	if err == nil {
		u.IDs, err = readIDs(pid)
	}
	if err != nil {
		u.Close()
		return nil, fmt.Errorf("look at a user namespace: %w", err)
	}
	return u, nil
}

func readIDs(pid int) (IDs, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	if err != nil {
		return IDs{}, err
	}
	var inside uint32
	var ids IDs
	if _, err := fmt.Sscan(string(raw), &inside, &ids.Base, &ids.Count); err != nil || inside != 0 {
		return IDs{}, fmt.Errorf("its users are %q", raw)
	}
	return ids, nil
}

// OpenUsers opens the user namespace file at path; of no path it is nil.
func OpenUsers(path string, ids IDs) (*Users, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open a user namespace: %w", err)
	}
	return &Users{File: file, IDs: ids}, nil
}

// Close lets go of the file.
func (u *Users) Close() {
	if u != nil {
		u.File.Close()
	}
}

// HoldNamespaces forks a process with a new user namespace and others that belong to it. It does nothing until release
// ends it, or the calling thread ends.
func HoldNamespaces(kinds uintptr, ids IDs) (pid int, release func(), err error) {
	list, err := newChildCalls(4<<10 + callsSize)
	if err != nil {
		return 0, nil, err
	}
	defer list.close()
	list.add("end with the thread", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL))
	list.add("wait", unix.SYS_PPOLL)
	pid, err = forkWithoutSignals(func() (uintptr, syscall.Errno) {
		return spawnChild(list.calls, list.report(), unix.CLONE_NEWUSER|kinds, nil)
	})
	if err != nil {
		return 0, nil, fmt.Errorf("make a user namespace: %w (sysctl user.max_user_namespaces says how many there may be)", err)
	}
	release = func() { killChild(pid) }
	numbers := []byte(fmt.Sprintf("0 %d %d\n", ids.Base, ids.Count))
	for _, file := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), numbers, 0o644); err != nil {
			release()
			return 0, nil, fmt.Errorf("say which users a user namespace has: %w", err)
		}
	}
	return pid, release, nil
}

// enter has the child enter the user namespace, in which it then has all capabilities.
func (u *Users) enter(l *childCalls) {
	l.add("enter its user namespace", unix.SYS_SETNS, u.File.Fd(), unix.CLONE_NEWUSER)
}

// drop takes capabilities for good.
func (l *childCalls) drop(capabilities []int) {
	for _, capability := range capabilities {
		l.add("", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(capability)) // the kernel may not know it
	}
}

// between has a child go to the user namespace, make namespaces there that its children are in, and fork the process that is
// wanted, as a child of ours: what belongs to a user namespace is made by who is in it. A mount namespace is always one of
// them, a PID namespace is new or is pids.
func (l *childCalls) between(u *Users, kinds uintptr, pids *os.File) {
	later := l.calls
	l.calls = nil
	u.enter(l)
	l.become(&syscall.Credential{})
	l.add("make its mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS|kinds)
	if pids != nil {
		l.add("enter its PID namespace", unix.SYS_SETNS, pids.Fd(), unix.CLONE_NEWPID)
	}
	l.before, l.calls = l.calls, later
}

// after reaps the child between and gives the process that it has forked.
func (l *childCalls) after(between int) (int, error) {
	for {
		if _, err := unix.Wait4(between, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	report := l.report()
	switch {
	case report.pid > 0:
		return int(report.pid), nil
	case report.between > 0:
		return 0, fmt.Errorf("%s: %w", l.before[report.between-1].what, syscall.Errno(report.errno))
	case report.errno > 0:
		return 0, syscall.Errno(report.errno)
	}
	return 0, errors.New("the process between ended early")
}

// spawnBetween is that child. It has no Go runtime: see forkInit.
//
//go:nosplit
//go:norace
//go:noinline
func spawnBetween(before, calls []rawCall, report *spawnReport, memory []region) (uintptr, syscall.Errno) {
	pid, errno := uintptr(0), syscall.Errno(0)
	withhold(memory, uintptr(unsafe.Pointer(&pid)), unix.MADV_DONTFORK)
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		withhold(memory, uintptr(unsafe.Pointer(&pid)), unix.MADV_DOFORK)
		return pid, errno
	}
	if report.between, report.errno = makeCalls(before); report.between == 0 {
		if pid, errno = spawnChild(calls, report, unix.CLONE_PARENT, nil); errno != 0 {
			report.errno = uint32(errno)
		}
		report.pid = uint32(pid)
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// forkInit forks an init in the user namespace.
func (u *Users) forkInit(page *initPage, o InitOptions) (int, error) {
	list, err := newChildCalls(4<<10 + callsSize)
	if err != nil {
		return 0, err
	}
	defer list.close()
	var kinds uintptr
	if o.NewPID {
		kinds = unix.CLONE_NEWPID
	}
	list.between(u, kinds, o.PIDs)
	report := list.report()
	between, err := forkWithoutSignals(func() (uintptr, syscall.Errno) { return forkInitBetween(list.before, report, page) })
	if err != nil {
		return 0, err
	}
	return list.after(between)
}

// forkInitBetween is spawnBetween for an init.
//
//go:nosplit
//go:norace
//go:noinline
func forkInitBetween(before []rawCall, report *spawnReport, page *initPage) (uintptr, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	if report.between, report.errno = makeCalls(before); report.between == 0 {
		pid, errno = forkInit(page, unix.CLONE_PARENT|uintptr(unix.SIGCHLD))
		report.errno, report.pid = uint32(errno), uint32(pid)
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
