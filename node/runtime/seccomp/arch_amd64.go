package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const x32Bit = 0x40000000 // __X32_SYSCALL_BIT

// x32Moved are the calls of the x32 ABI whose arguments are laid out as on 32 bits (syscall_64.tbl of the kernel).
const x32Moved = `rt_sigaction=512 rt_sigreturn=513 ioctl=514 readv=515 writev=516 recvfrom=517 sendmsg=518 recvmsg=519
execve=520 ptrace=521 rt_sigpending=522 rt_sigtimedwait=523 rt_sigqueueinfo=524 sigaltstack=525 timer_create=526
mq_notify=527 kexec_load=528 waitid=529 set_robust_list=530 get_robust_list=531 vmsplice=532 move_pages=533 preadv=534
pwritev=535 rt_tgsigqueueinfo=536 recvmmsg=537 sendmmsg=538 process_vm_readv=539 process_vm_writev=540 setsockopt=541
getsockopt=542 io_setup=543 io_submit=544 execveat=545 preadv2=546 pwritev2=547`

func architectures() []architecture {
	return []architecture{
		{name: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64, table: tableAMD64},
		{name: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, bit: x32Bit, table: tableAMD64, moved: x32Moved},
		{name: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, table: table386, gates: gates386()},
	}
}

// gates386 are the calls of sockets and System V IPC, which 32-bit programs make through socketcall(2) and ipc(2), too.
func gates386() map[string]gate {
	gates := map[string]gate{}
	for i, name := range []string{
		"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv", "sendto",
		"recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
	} {
		gates[name] = gate{"socketcall", i + 1}
	}
	for name, operation := range map[string]int{
		"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
		"shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
	} {
		gates[name] = gate{"ipc", operation}
	}
	return gates
}
