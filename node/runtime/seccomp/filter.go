package seccomp

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

// Filter is what seccomp(2) takes.
type Filter struct {
	Flags   uint32
	Program []byte // struct sock_filter, one after the other; empty: nothing is filtered
}

// RuntimeDefault is Docker's default profile for a container with these capabilities in its bounding set, as "CAP_CHOWN".
func RuntimeDefault(bounding []string) (Filter, error) {
	profile, err := seccomp.GetDefaultProfile(specFor(bounding))
	if err != nil {
		return Filter{}, fmt.Errorf("make the default seccomp profile: %w", err)
	}
	return Compile(profile)
}

// Load reads a profile from a file: in the form of the OCI runtime specification or in Docker's, which besides knows rules
// for some capabilities, architectures and kernels only.
func Load(path string, bounding []string) (Filter, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return Filter{}, fmt.Errorf("cannot load seccomp profile %q: %w", path, err)
	}
	profile, err := seccomp.LoadProfile(string(body), specFor(bounding))
	if err != nil {
		return Filter{}, fmt.Errorf("cannot load seccomp profile %q: %w", path, err)
	}
	filter, err := Compile(profile)
	if err != nil {
		return Filter{}, fmt.Errorf("cannot load seccomp profile %q: %w", path, err)
	}
	return filter, nil
}

func specFor(bounding []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: bounding}}}
}

// Compile makes the filter of a profile for this machine. No profile is no filter.
func Compile(profile *specs.LinuxSeccomp) (Filter, error) {
	if profile == nil {
		return Filter{}, nil
	}
	flags, err := flagsOf(profile)
	if err != nil {
		return Filter{}, err
	}
	instructions, err := program(profile, architectures())
	if err != nil {
		return Filter{}, err
	}
	raw, err := bpf.Assemble(instructions)
	if err != nil {
		return Filter{}, fmt.Errorf("assemble the filter: %w", err)
	}
	if len(raw) > maxInstructions {
		return Filter{}, fmt.Errorf("the filter has %d instructions, and the kernel takes %d: shorten the profile", len(raw), maxInstructions)
	}
	filter := Filter{Flags: flags}
	for _, i := range raw {
		filter.Program = binary.NativeEndian.AppendUint16(filter.Program, i.Op)
		filter.Program = append(filter.Program, i.Jt, i.Jf)
		filter.Program = binary.NativeEndian.AppendUint32(filter.Program, i.K)
	}
	return filter, nil
}

const maxInstructions = 4096 // BPF_MAXINSNS

// Flags of seccomp(2).
const (
	flagLog       = 1 << 1
	flagSpecAllow = 1 << 2
)

// flagsOf reads a profile's flags. Where it has none they are what runc takes then.
func flagsOf(profile *specs.LinuxSeccomp) (uint32, error) {
	if profile.ListenerPath != "" || profile.ListenerMetadata != "" {
		return 0, fmt.Errorf("listenerPath: there is no agent here that decides on system calls; take SCMP_ACT_NOTIFY out of the profile")
	}
	if profile.Flags == nil {
		return flagSpecAllow, nil
	}
	var flags uint32
	for _, flag := range profile.Flags {
		switch flag {
		case specs.LinuxSeccompFlagLog:
			flags |= flagLog
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= flagSpecAllow
		case "SECCOMP_FILTER_FLAG_TSYNC": // a process that begins has one thread
		default:
			return 0, fmt.Errorf("seccomp flag %q is not supported", flag)
		}
	}
	return flags, nil
}
