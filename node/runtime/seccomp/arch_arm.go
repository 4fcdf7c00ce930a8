package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func architectures() []architecture {
	return []architecture{{name: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, table: tableARM, moved: armPrivate}}
}
