package process

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"svcplane/node/runtime/cgroup"
)

// InitOptions say what the forked init is to do.
type InitOptions struct {
	NewPID    bool // become PID 1 of a new PID namespace
	MountProc bool // mount a fresh /proc, as seen from its PID namespace
	// Cgroup is where it lives; nil: where the one is that forks it. It is spared when memory is short there: with it all
	// processes of its PID namespace end.
	Cgroup *cgroup.Place
	// Users is the user namespace that it and its mount namespace belong to; nil: ours. PIDs is then the PID namespace that it
	// enters, instead of the thread.
	Users *Users
	PIDs  *os.File
}

// initPage is all that the child may read after the fork: it lies in memory of its own, because the child
// gives the rest of what it shares with us back.
type initPage struct {
	proc      [8]byte
	procPath  [8]byte
	name      [16]byte
	ignore    sigaction   // SIG_IGN
	parent    unix.PollFd // descriptor 0, a pidfd of the process that forked
	report    uintptr     // pipe that gets the error number of the mount, 0 for none
	pidfd     uintptr
	procs     uintptr // cgroup.procs of the cgroup to enter, 0 for none
	zero      [8]byte // "0": what is written to it
	mountProc bool
	errno     uint32
	count     int
	drop      [240][2]uintptr // from, to (exclusive)
}

// ForkInit forks the calling thread (within OnThread) without exec, into the namespaces and root which the
// thread has: the child keeps them alive, reaps what is orphaned to it and takes no signal but SIGKILL.
// As PID 1 its end is the end of all processes in the namespace. It costs a few pages of memory; running
// this binary again would cost 80 ms and 15 MB.
func ForkInit(o InitOptions) (int, error) {
	page, err := newInitPage(o)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(page)), unsafe.Sizeof(*page)))
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, fmt.Errorf("make a pipe for an init: %w", err)
	}
	defer unix.Close(pipe[0])
	page.report = uintptr(pipe[1])
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		unix.Close(pipe[1])
		return 0, fmt.Errorf("open a pidfd for an init: %w", err)
	}
	defer unix.Close(self)
	page.pidfd = uintptr(self)
	page.procs, _ = o.Cgroup.Procs()
	if err := o.Cgroup.Join(); err != nil {
		unix.Close(pipe[1])
		return 0, err
	}

	flags := uintptr(unix.SIGCHLD)
	if o.NewPID {
		flags |= unix.CLONE_NEWPID
	}
	var pid int
	if o.Users != nil {
		pid, err = o.Users.forkInit(page, o)
	} else {
		pid, err = forkWithoutSignals(func() (uintptr, syscall.Errno) { return forkInit(page, flags) })
	}
	unix.Close(pipe[1])
	if err != nil {
		return 0, fmt.Errorf("fork an init: %w", err)
	}
	if err := initReport(pipe[0]); err != nil {
		killChild(pid)
		return 0, err
	}
	if o.Cgroup == nil {
		return pid, nil
	}
	return scored(pid, initScore)
}

// initScore is what the kubelet gives the process that holds a pod.
const initScore = -998

// initReport reads the one error number an init sends when it is set up.
func initReport(fd int) error {
	var buf [4]byte
	n, err := readRetry(fd, buf[:])
	if err != nil || n != len(buf) {
		return fmt.Errorf("start an init: it ended before it reported (%d bytes, %v)", n, err)
	}
	// The end of file says that the child has closed the pipe too, its last descriptor.
	if _, err := readRetry(fd, make([]byte, 1)); err != nil {
		return fmt.Errorf("start an init: %w", err)
	}
	if errno := *(*uint32)(unsafe.Pointer(&buf)); errno != 0 {
		return fmt.Errorf("enter the cgroup of a container, or mount its /proc: %w", syscall.Errno(errno))
	}
	return nil
}

func readRetry(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// killChild ends and reaps a child of ours.
func killChild(pid int) {
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return
	}
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

func newInitPage(o InitOptions) (*initPage, error) {
	mem, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(initPage{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map memory for an init: %w", err)
	}
	page := (*initPage)(unsafe.Pointer(&mem[0]))
	copy(page.proc[:], "proc")
	copy(page.procPath[:], "/proc")
	copy(page.name[:], "svcplane-init")
	page.zero[0] = '0'
	page.ignore[0] = 1 // SIG_IGN
	page.parent = unix.PollFd{Fd: 0, Events: unix.POLLIN}
	page.mountProc = o.MountProc
	if err := page.collect(); err != nil {
		unix.Munmap(mem)
		return nil, err
	}
	return page, nil
}

// collect lists the anonymous writable memory of this process, less the surroundings of the page itself.
func (p *initPage) collect() error {
	memory, err := anonymousMemory("/proc/thread-self/maps")
	if err != nil {
		return err
	}
	low := uintptr(unsafe.Pointer(p))
	high := low + (unsafe.Sizeof(*p)+keepAround)&^(keepAround-1)
	for _, m := range memory {
		if m.from < high && low < m.to {
			p.add(m.from, low)
			p.add(high, m.to)
			continue
		}
		p.add(m.from, m.to)
	}
	return nil
}

// keepAround is how much memory on both sides of its stack pointer the child keeps: more than a stack that
// may not grow can use, and a multiple of any page size.
const keepAround = 64 << 10

// add appends [from, to) to the list if it is not empty and there is room; what is not on the list is kept.
func (p *initPage) add(from, to uintptr) {
	if from < to && p.count < len(p.drop) {
		p.drop[p.count] = [2]uintptr{from, to}
		p.count++
	}
}

// forkInit is the fork and the whole life of the child. The child has one thread and no Go runtime: only
// raw system calls, no stack growth, no allocation, no memory outside of page and this frame.
//
//go:nosplit
//go:norace
//go:noinline
func forkInit(page *initPage, flags uintptr) (uintptr, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	if page.procs != 0 {
		if _, _, errno = syscall.RawSyscall(unix.SYS_WRITE, page.procs, uintptr(unsafe.Pointer(&page.zero)), 1); errno != 0 {
			page.errno = uint32(errno)
		}
	}
	syscall.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&page.name)), 0)
	if page.mountProc && page.errno == 0 {
		_, _, errno = syscall.RawSyscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(&page.proc)), uintptr(unsafe.Pointer(&page.procPath)),
			uintptr(unsafe.Pointer(&page.proc)), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, 0, 0)
		page.errno = uint32(errno)
	}
	// Without exec nothing closes the descriptors marked close-on-exec: sockets and logs would stay open.
	syscall.RawSyscall(unix.SYS_DUP3, page.pidfd, 0, 0)
	syscall.RawSyscall(unix.SYS_DUP3, page.report, 1, 0)
	if _, _, errno = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 2, 1<<31-1, 0); errno != 0 {
		for fd := uintptr(2); fd < 1<<16; fd++ {
			syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		}
	}
	// With SIGCHLD ignored the kernel reaps what is orphaned to this process (wait(2)).
	syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&page.ignore)), 0, 8, 0, 0)
	low := uintptr(unsafe.Pointer(&pid))&^(keepAround-1) - keepAround
	high := low + 3*keepAround
	for i := 0; i < page.count && i < len(page.drop); i++ {
		from, to := page.drop[i][0], page.drop[i][1]
		if from < high && low < to { // around the stack
			if from < low {
				syscall.RawSyscall(unix.SYS_MADVISE, from, low-from, unix.MADV_DONTNEED)
			}
			from = high
		}
		if from < to {
			syscall.RawSyscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
	syscall.RawSyscall(unix.SYS_WRITE, 1, uintptr(unsafe.Pointer(&page.errno)), 4)
	syscall.RawSyscall(unix.SYS_CLOSE, 1, 0, 0)
	for page.errno == 0 && page.parent.Revents == 0 {
		syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&page.parent)), 1, 0, 0, 0, 0)
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
