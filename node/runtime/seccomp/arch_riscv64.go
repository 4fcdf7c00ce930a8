package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func architectures() []architecture {
	return []architecture{{name: specs.ArchRISCV64, audit: unix.AUDIT_ARCH_RISCV64, table: tableRISCV64}}
}
