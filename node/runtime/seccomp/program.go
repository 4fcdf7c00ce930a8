package seccomp

import (
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

// Offsets in struct seccomp_data. Every architecture that svcplane is built for has the low half of an argument first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// program is the filter of a profile for a machine that has some architectures, the native one first.
func program(profile *specs.LinuxSeccomp, machine []architecture) ([]bpf.Instruction, error) {
	if len(machine) == 0 {
		return nil, fmt.Errorf("there is no table of system calls for this architecture, so no seccomp filter can be made; use Unconfined")
	}
	for _, name := range profile.Architectures {
		if !slices.Contains(knownArchitectures[:], name) {
			return nil, fmt.Errorf("string %s is not a valid arch for seccomp", name)
		}
	}
	list := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetArch, Size: 4}}
	for i := 0; i < len(machine); {
		same := 1 // architectures with one number to the kernel: x86_64 and x32
		for i+same < len(machine) && machine[i+same].audit == machine[i].audit {
			same++
		}
		segments, err := segmentsOf(profile, machine[i:i+same], i == 0)
		if err != nil {
			return nil, err
		}
		if segments != nil {
			body := append([]bpf.Instruction{bpf.LoadAbsolute{Off: offsetNumber, Size: 4}}, decide(segments)...)
			list = append(list, skipUnless(bpf.JumpEqual, machine[i].audit, len(body))...)
			list = append(list, body...)
		}
		i += same
	}
	return append(list, bpf.RetConstant{Val: retKillThread}), nil
}

// segmentsOf joins the segments of architectures that share a number; nil if the profile has none of them. The native
// one is always meant.
func segmentsOf(profile *specs.LinuxSeccomp, group []architecture, native bool) ([]segment, error) {
	var list []segment
	any := false
	var skipped segment // -1, which a debugger gives to a call that is not to happen, has every architecture's bit
	for i, arch := range group {
		if !slices.Contains(profile.Architectures, arch.name) && !(native && i == 0) {
			list = put(list, segment{arch.bit, outcome{otherwise: retKillThread}})
			continue
		}
		any = true
		p, err := newPolicy(profile, arch)
		if err != nil {
			return nil, err
		}
		for _, s := range p.segments() {
			list = put(list, s)
		}
		if i == 0 {
			skipped = p.gap(math.MaxUint32)
		}
	}
	if !any {
		return nil, nil
	}
	if len(group) > 1 && skipped.from != 0 {
		list = put(list, skipped)
	}
	return list, nil
}

// decide finds the segment of the number in the accumulator and gives its outcome.
func decide(segments []segment) []bpf.Instruction {
	if len(segments) == 1 {
		return segments[0].instructions()
	}
	middle := len(segments) / 2
	low, high := decide(segments[:middle]), decide(segments[middle:])
	return slices.Concat(skipUnless(bpf.JumpLessThan, segments[middle].from, len(low)), low, high)
}

// skipUnless jumps over the next instructions unless the accumulator compares so with a value.
func skipUnless(condition bpf.JumpTest, value uint32, over int) []bpf.Instruction {
	if over <= 255 {
		return []bpf.Instruction{bpf.JumpIf{Cond: condition, Val: value, SkipFalse: uint8(over)}}
	}
	return []bpf.Instruction{bpf.JumpIf{Cond: condition, Val: value, SkipTrue: 1}, bpf.Jump{Skip: uint32(over)}}
}

// instructions end with a return whatever holds.
func (o outcome) instructions() []bpf.Instruction {
	var list []bpf.Instruction
	for _, r := range o.rules {
		list = append(list, r.instructions()...)
	}
	return append(list, bpf.RetConstant{Val: o.otherwise})
}

// instructions return if all conditions hold, and else go on behind themselves.
func (r rule) instructions() []bpf.Instruction {
	list := []bpf.Instruction{bpf.RetConstant{Val: r.ret}}
	for _, c := range slices.Backward(r.conditions) {
		list = append(comparer(c.Op)(argument(c), len(list)), list...)
	}
	return list
}

// comparison of an argument with a value, in halves: the machine has 32 bits.
type comparison struct {
	low, high      uint32 // offsets of the argument's halves
	value, second  uint64
	maskLo, maskHi uint32
}

func argument(c specs.LinuxSeccompArg) comparison {
	offset := uint32(offsetArgs + 8*c.Index)
	return comparison{low: offset, high: offset + 4, value: c.Value, second: c.ValueTwo, maskLo: uint32(c.Value), maskHi: uint32(c.Value >> 32)}
}

// comparer makes instructions that go on behind themselves where the comparison holds, and else jump over the next `over`; nil
// for an operator that there is not.
func comparer(op specs.LinuxSeccompOperator) func(c comparison, over int) []bpf.Instruction {
	switch op {
	case specs.OpEqualTo:
		return comparison.equal
	case specs.OpNotEqual:
		return comparison.notEqual
	case specs.OpGreaterThan:
		return func(c comparison, over int) []bpf.Instruction { return c.greater(bpf.JumpGreaterThan, over) }
	case specs.OpGreaterEqual:
		return func(c comparison, over int) []bpf.Instruction { return c.greater(bpf.JumpGreaterOrEqual, over) }
	case specs.OpLessThan:
		return func(c comparison, over int) []bpf.Instruction { return c.less(bpf.JumpGreaterOrEqual, over) }
	case specs.OpLessEqual:
		return func(c comparison, over int) []bpf.Instruction { return c.less(bpf.JumpGreaterThan, over) }
	case specs.OpMaskedEqual:
		return comparison.maskedEqual
	}
	return nil
}

func (c comparison) equal(over int) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: c.high, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.value >> 32), SkipFalse: uint8(over + 2)},
		bpf.LoadAbsolute{Off: c.low, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.value), SkipFalse: uint8(over)},
	}
}

func (c comparison) notEqual(over int) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: c.high, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.value >> 32), SkipFalse: 2},
		bpf.LoadAbsolute{Off: c.low, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.value), SkipTrue: uint8(over)},
	}
}

// greater, or no less: low compares the low halves where the high ones are equal.
func (c comparison) greater(low bpf.JumpTest, over int) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: c.high, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(c.value >> 32), SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.value >> 32), SkipFalse: uint8(over + 2)},
		bpf.LoadAbsolute{Off: c.low, Size: 4},
		bpf.JumpIf{Cond: low, Val: uint32(c.value), SkipFalse: uint8(over)},
	}
}

// less, or no greater: it fails where low holds of the low halves and the high ones are equal.
func (c comparison) less(low bpf.JumpTest, over int) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: c.high, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(c.value >> 32), SkipTrue: uint8(over + 3)},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.value >> 32), SkipFalse: 2},
		bpf.LoadAbsolute{Off: c.low, Size: 4},
		bpf.JumpIf{Cond: low, Val: uint32(c.value), SkipTrue: uint8(over)},
	}
}

// maskedEqual compares what the mask, the first value, leaves of the argument with the second.
func (c comparison) maskedEqual(over int) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: c.high, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.maskHi},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.second >> 32), SkipFalse: uint8(over + 3)},
		bpf.LoadAbsolute{Off: c.low, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.maskLo},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.second), SkipFalse: uint8(over)},
	}
}
