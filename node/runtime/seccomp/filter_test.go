package seccomp

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// machine runs a filter as the kernel does.
type machine struct {
	t      *testing.T
	vm     *bpf.VM
	arches []architecture
}

// testMachine is amd64's, whatever the test runs on.
func testMachine() []architecture {
	return []architecture{
		{name: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64, table: tableAMD64},
		{name: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, bit: 0x40000000, table: tableAMD64, moved: "execve=520"},
		{name: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, table: table386, gates: map[string]gate{"connect": {"socketcall", 3}}},
	}
}

func compiled(t *testing.T, profile string) machine {
	t.Helper()
	var p specs.LinuxSeccomp
	if err := json.Unmarshal([]byte(profile), &p); err != nil {
		t.Fatal(err)
	}
	m := machine{t: t, arches: testMachine()}
	list, err := program(&p, m.arches)
	if err != nil {
		t.Fatal(err)
	}
	if m.vm, err = bpf.NewVM(list); err != nil {
		t.Fatal(err)
	}
	return m
}

// call gives what the filter returns for a call of an architecture of the machine.
func (m machine) call(arch int, name string, args ...uint64) uint32 {
	m.t.Helper()
	number, ok := m.arches[arch].numbers()[name]
	if !ok {
		m.t.Fatalf("%s has no call %s", m.arches[arch].name, name)
	}
	return m.number(arch, number, args...)
}

func (m machine) number(arch int, number uint32, args ...uint64) uint32 {
	m.t.Helper()
	data := make([]byte, offsetArgs+8*6) // struct seccomp_data, in words as the machine of this test loads them
	binary.BigEndian.PutUint32(data[offsetNumber:], number|m.arches[arch].bit)
	binary.BigEndian.PutUint32(data[offsetArch:], m.arches[arch].audit)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[offsetArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[offsetArgs+8*i+4:], uint32(a>>32))
	}
	got, err := m.vm.Run(data)
	if err != nil {
		m.t.Fatal(err)
	}
	return uint32(got)
}

const (
	eperm  = retErrno | 1
	enosys = retErrno | 38
)

func TestAProfileMeansWhatItMeansToRunc(t *testing.T) {
	m := compiled(t, `{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
		{"names": ["read", "write", "no_such_call", "mseal"], "action": "SCMP_ACT_ALLOW"},
		{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22},
		{"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS"},
		{"names": ["umount2"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
		{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
		{"names": ["personality"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}]},
		{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
		{"names": ["kill"], "action": "SCMP_ACT_TRAP"},
		{"names": ["connect"], "action": "SCMP_ACT_ALLOW"}]}`)
	for what, c := range map[string]struct{ got, want uint32 }{
		"allowed":                          {m.call(0, "read"), retAllow},
		"allowed, the other ABI":           {m.call(2, "write"), retAllow},
		"not named":                        {m.call(0, "open"), eperm},
		"with a number of its own":         {m.call(0, "mkdir"), retErrno | 22},
		"that ends the process":            {m.call(0, "mount"), retKillProcess},
		"for a tracer":                     {m.call(0, "umount2"), retTrace | 7},
		"by the first condition":           {m.call(0, "personality", 8), retAllow},
		"by the second condition":          {m.call(0, "personality", 9), retLog},
		"by no condition":                  {m.call(0, "personality", 8|1<<32), eperm},
		"whose last rule has no condition": {m.call(0, "kill", 1), retTrap},
		"of an ABI that is not listed":     {m.number(1, 0), retKillThread},
		"newer than all that are named":    {m.number(0, 463), enosys},
		"the newest that is named":         {m.call(0, "mseal"), retAllow},
		"below it":                         {m.number(0, 461), eperm},
		"that a debugger skips":            {m.number(0, math.MaxUint32), enosys},
		"of sockets through one call":      {m.call(2, "socketcall", 3), retAllow},
		"of other sockets through it":      {m.call(2, "socketcall", 2), eperm},
	} {
		if c.got != c.want {
			t.Errorf("a call %s: %#x, want %#x", what, c.got, c.want)
		}
	}
	open := compiled(t, `{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X32", "SCMP_ARCH_PPC"], "syscalls": [
		{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}]}`)
	for what, c := range map[string]struct{ got, want uint32 }{
		"execve of x32":                  {open.number(1, 520), eperm},
		"the native number in x32":       {open.number(1, 59), retAllow},
		"new, where all is allowed":      {open.number(0, 9999), retAllow},
		"of an ABI that is not listed":   {open.call(2, "read"), retKillThread},
		"skipped where all are allowed":  {open.number(0, math.MaxUint32), retAllow},
		"native, though nobody lists it": {open.call(0, "execve"), eperm},
	} {
		if c.got != c.want {
			t.Errorf("a call %s: %#x, want %#x", what, c.got, c.want)
		}
	}
}

// TestComparisons tries each operator around the borders of its value's halves.
func TestComparisons(t *testing.T) {
	values := []uint64{0, 1, 5, 6, 1<<32 - 1, 1 << 32, 5<<32 | 5, 5<<32 | 6, 6<<32 | 5, 4<<32 | 9, math.MaxUint64}
	for op, holds := range map[specs.LinuxSeccompOperator]func(a, v uint64) bool{
		specs.OpEqualTo:      func(a, v uint64) bool { return a == v },
		specs.OpNotEqual:     func(a, v uint64) bool { return a != v },
		specs.OpLessThan:     func(a, v uint64) bool { return a < v },
		specs.OpLessEqual:    func(a, v uint64) bool { return a <= v },
		specs.OpGreaterThan:  func(a, v uint64) bool { return a > v },
		specs.OpGreaterEqual: func(a, v uint64) bool { return a >= v },
		specs.OpMaskedEqual:  func(a, v uint64) bool { return a&v == 5 },
	} {
		for _, v := range values {
			// Behind another condition and before another rule, which the jumps have to find.
			profile, err := json.Marshal(specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
				{Names: []string{"ioctl"}, Action: specs.ActTrap, Args: []specs.LinuxSeccompArg{
					{Index: 5, Value: 7, Op: specs.OpEqualTo}, {Index: 2, Value: v, ValueTwo: 5, Op: op}, {Index: 0, Value: 3, Op: specs.OpGreaterThan},
				}},
				{Names: []string{"ioctl"}, Action: specs.ActLog, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 4, Op: specs.OpEqualTo}}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			m := compiled(t, string(profile))
			for _, a := range values {
				want := uint32(retLog)
				if holds(a, v) {
					want = retTrap
				}
				if got := m.call(0, "ioctl", 4, 4, a, 0, 0, 7); got != want {
					t.Errorf("%#x %s %#x: %#x, want %#x", a, op, v, got, want)
				}
				if got := m.call(0, "ioctl", 3, 4, a, 0, 0, 7); got != retLog {
					t.Errorf("%#x %s %#x and a condition that does not hold: %#x", a, op, v, got)
				}
			}
		}
	}
}

// TestTwoConditionsOnOneArgumentAreTwoRules holds what runc does with them.
func TestTwoConditionsOnOneArgumentAreTwoRules(t *testing.T) {
	m := compiled(t, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
		{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]}]}`)
	for domain, want := range map[uint64]uint32{16: eperm, 40: eperm, 2: retAllow} {
		if got := m.call(0, "socket", domain); got != want {
			t.Errorf("socket(%d): %#x, want %#x", domain, got, want)
		}
	}
}

func TestWhatCannotBeExpressedIsRefusedByName(t *testing.T) {
	dir := t.TempDir()
	for profile, want := range map[string]string{
		`{`:                                    "cannot load seccomp profile",
		`{"defaultAction": "SCMP_ACT_NOTIFY"}`: "SCMP_ACT_NOTIFY",
		`{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}`:                                                                                       "listenerPath",
		`{"defaultAction": "SCMP_ACT_MAYBE"}`:                                                                                                             "string SCMP_ACT_MAYBE is not a valid action for seccomp",
		`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}`:                                                                         "string SCMP_ARCH_VAX is not a valid arch for seccomp",
		`{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}`:                                                        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [""], "action": "SCMP_ACT_ERRNO"}]}`:                                                  "empty string is not a valid syscall",
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]}`: "no argument 6",
		`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_HM"}]}]}`: "string SCMP_CMP_HM is not a valid operator for seccomp",
	} {
		path := filepath.Join(dir, "profile.json")
		if err := os.WriteFile(path, []byte(profile), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path, nil); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", profile, err)
		}
	}
	if _, err := Load(filepath.Join(dir, "none.json"), nil); err == nil || !strings.HasPrefix(err.Error(), `cannot load seccomp profile "`+dir+`/none.json": open`) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestTheDefaultDependsOnCapabilities(t *testing.T) {
	without, err := RuntimeDefault(nil)
	if err != nil {
		t.Fatal(err)
	}
	with, err := RuntimeDefault([]string{"CAP_SYS_ADMIN"})
	if err != nil {
		t.Fatal(err)
	}
	if len(without.Program) == 0 || string(without.Program) == string(with.Program) {
		t.Errorf("%d octets without CAP_SYS_ADMIN, the same with it", len(without.Program))
	}
	t.Logf("%d instructions", len(without.Program)/8)
}

// TestEveryArchitectureHasTheDefault compiles it for machines that the test does not run on.
func TestEveryArchitectureHasTheDefault(t *testing.T) {
	for _, a := range []architecture{
		{name: specs.ArchAARCH64, audit: unix.AUDIT_ARCH_AARCH64, table: tableARM64},
		{name: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, table: tableARM, moved: armPrivate},
		{name: specs.ArchRISCV64, audit: unix.AUDIT_ARCH_RISCV64, table: tableRISCV64},
	} {
		m := machine{t: t, arches: []architecture{a}}
		list, err := program(&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "execve", "newfstatat", "fstatat64", "set_tls", "openat2"}, Action: specs.ActAllow},
		}}, m.arches)
		if err != nil {
			t.Fatal(err)
		}
		if m.vm, err = bpf.NewVM(list); err != nil {
			t.Fatal(err)
		}
		stat := "newfstatat"
		if a.name == specs.ArchARM {
			stat = "fstatat64"
			if got := m.call(0, "set_tls"); got != retAllow {
				t.Errorf("arm's set_tls: %#x", got)
			}
		}
		if read, files, none, newer := m.call(0, "read"), m.call(0, stat), m.call(0, "mount"), m.number(0, 440); read != retAllow || files != retAllow || none != eperm || newer != enosys {
			t.Errorf("%s: read %#x, %s %#x, mount %#x, a newer one %#x", a.name, read, stat, files, none, newer)
		}
	}
}
