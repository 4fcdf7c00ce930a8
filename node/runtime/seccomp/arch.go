package seccomp

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// architecture is one way in which programs call the kernel of this machine.
type architecture struct {
	name  specs.Arch
	audit uint32          // AUDIT_ARCH_*, by which the kernel tells a filter
	bit   uint32          // that the numbers of its calls have besides
	table string          // name=number, of all calls
	moved string          // the same, of those that are not where the table has them
	gates map[string]gate // calls that programs may also make through another one
}

// gate is the call by which others are made, and the operation that its first argument then is.
type gate struct {
	call      string
	operation int
}

// numbers gives the calls of an architecture.
func (a architecture) numbers() map[string]uint32 {
	all := make(map[string]uint32, 512)
	for _, table := range []string{a.table, a.moved} {
		for entry := range strings.FieldsSeq(table) {
			name, text, _ := strings.Cut(entry, "=")
			if number, err := strconv.ParseUint(text, 10, 32); err == nil {
				all[name] = uint32(number)
			}
		}
	}
	return all
}

// knownArchitectures are the names that the OCI runtime specification has. Those that this machine's kernel has not, no
// program can use.
var knownArchitectures = [...]specs.Arch{
	specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64, specs.ArchMIPS, specs.ArchMIPS64,
	specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64,
	specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64,
	specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

// armPrivate are the calls that 32-bit ARM has besides: without set_tls no program there starts.
const armPrivate = "breakpoint=983041 cacheflush=983042 usr26=983043 usr32=983044 set_tls=983045 get_tls=983046"
