//go:build 386 || arm

package process

import "golang.org/x/sys/unix"

// Calls that take user and group numbers of 32 bits.
const (
	sysSetgroups = unix.SYS_SETGROUPS32
	sysSetgid    = unix.SYS_SETGID32
	sysSetuid    = unix.SYS_SETUID32
)
