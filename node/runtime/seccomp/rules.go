package seccomp

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Return values of a filter (seccomp(2)).
const (
	retKillProcess = 0x80000000
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000

	maxErrno = 4095
)

// ret gives the return value for an action of a profile.
func ret(action specs.LinuxSeccompAction, errnoRet *uint) (uint32, error) {
	number := uint32(unix.EPERM)
	if errnoRet != nil {
		number = uint32(min(*errnoRet, maxErrno))
	}
	switch action {
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActErrno:
		return retErrno | number, nil
	case specs.ActTrace:
		return retTrace | number, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActNotify:
		return 0, fmt.Errorf("action %s: there is no agent here that decides on system calls; use another action", action)
	}
	return 0, fmt.Errorf("string %s is not a valid action for seccomp", action)
}

// permissive says whether calls that a profile does not name go on.
func permissive(ret uint32) bool {
	return ret == retAllow || ret == retLog || ret&^0xffff == retTrace
}

// outcome is what becomes of a call: the first rule whose conditions all hold decides, else otherwise.
type outcome struct {
	rules     []rule
	otherwise uint32
}

type rule struct {
	conditions []specs.LinuxSeccompArg
	ret        uint32
}

// segment says what becomes of the calls from a number on, up to the next segment.
type segment struct {
	from uint32
	outcome
}

// policy is what a profile says of the calls of one architecture.
type policy struct {
	arch      architecture
	otherwise uint32
	calls     map[uint32]outcome
	last      uint32 // the highest number that is named; newer calls do not exist
	bounded   bool   // last counts
}

// newPolicy goes through a profile's rules for an architecture.
func newPolicy(profile *specs.LinuxSeccomp, arch architecture) (*policy, error) {
	otherwise, err := ret(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	p := &policy{arch: arch, otherwise: otherwise, calls: map[uint32]outcome{}}
	p.bounded = !permissive(otherwise) && otherwise != retErrno|uint32(unix.ENOSYS)
	numbers := arch.numbers()
	for _, call := range profile.Syscalls {
		action, err := ret(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, err
		}
		rules, err := rulesOf(call, action)
		if err != nil {
			return nil, err
		}
		for _, name := range call.Names {
			if name == "" {
				return nil, errors.New("empty string is not a valid syscall")
			}
			if number, ok := numbers[name]; ok {
				p.name(number)
				p.add(number, rules)
			}
			if gate, ok := arch.gates[name]; ok && len(call.Args) == 0 {
				through := specs.LinuxSeccompArg{Index: 0, Value: uint64(gate.operation), Op: specs.OpEqualTo}
				p.add(numbers[gate.call], []rule{{conditions: []specs.LinuxSeccompArg{through}, ret: action}})
			}
		}
	}
	return p, nil
}

// rulesOf gives the rules of an entry: one, but with two conditions on one argument one for each of them, as runc has it.
func rulesOf(call specs.LinuxSyscall, action uint32) ([]rule, error) {
	seen := map[uint]bool{}
	apart := false
	for _, c := range call.Args {
		if c.Index > 5 {
			return nil, fmt.Errorf("syscall %v: there is no argument %d, the last one is 5", call.Names, c.Index)
		}
		if comparer(c.Op) == nil {
			return nil, fmt.Errorf("string %s is not a valid operator for seccomp", c.Op)
		}
		apart = apart || seen[c.Index]
		seen[c.Index] = true
	}
	if !apart {
		return []rule{{conditions: call.Args, ret: action}}, nil
	}
	var rules []rule
	for i := range call.Args {
		rules = append(rules, rule{conditions: call.Args[i : i+1], ret: action})
	}
	return rules, nil
}

// name notes that the profile knows a call. Numbers that an architecture keeps for itself, such as arm's set_tls, do not count.
func (p *policy) name(number uint32) {
	if number < firstPrivate {
		p.last = max(p.last, number)
	}
}

const firstPrivate = 0xf0000

// add adds rules for a call, unless they say what holds anyway.
func (p *policy) add(number uint32, rules []rule) {
	if rules[0].ret == p.otherwise {
		return
	}
	before, known := p.calls[number]
	switch unconditional := len(rules[0].conditions) == 0; {
	case known && len(before.rules) == 0: // what is there holds for all calls already
	case unconditional:
		p.calls[number] = outcome{otherwise: rules[0].ret}
	default:
		p.calls[number] = outcome{rules: slices.Concat(before.rules, rules), otherwise: p.otherwise}
	}
}

// segments lists what becomes of all numbers, without those of other architectures: with the architecture's bit.
func (p *policy) segments() []segment {
	list := []segment{p.gap(0)}
	for _, number := range slices.Sorted(maps.Keys(p.calls)) {
		if number > p.last {
			list = p.end(list)
		}
		list = put(list, segment{number | p.arch.bit, p.calls[number]})
		list = put(list, p.gap(number+1))
	}
	return p.end(list)
}

// end appends where the calls end that exist, unless the list goes further.
func (p *policy) end(list []segment) []segment {
	if s := p.gap(p.last + 1); p.bounded && list[len(list)-1].from <= s.from {
		return put(list, s)
	}
	return list
}

// gap is what becomes of calls that no rule names, from a number on.
func (p *policy) gap(number uint32) segment {
	otherwise := p.otherwise
	if p.bounded && number > p.last {
		otherwise = retErrno | uint32(unix.ENOSYS)
	}
	return segment{number | p.arch.bit, outcome{otherwise: otherwise}}
}

// put appends a segment, which takes the place of one that begins where it does, and is left out where it changes nothing.
func put(list []segment, s segment) []segment {
	if n := len(list); n > 0 && list[n-1].from == s.from {
		list = list[:n-1]
	}
	if n := len(list); n > 0 && len(list[n-1].rules)+len(s.rules) == 0 && list[n-1].otherwise == s.otherwise {
		return list
	}
	return append(list, s)
}
