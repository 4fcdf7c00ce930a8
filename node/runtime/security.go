package runtime

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/process"
)

// capabilities are the names of capabilities(7), by number.
var capabilities = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
	"SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
	"AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
	"PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// defaultCapabilities are what a container keeps that asks for nothing, as with other runtimes.
var defaultCapabilities = [...]string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT",
	"MKNOD", "AUDIT_WRITE", "SETFCAP",
}

// secure applies a security context to a command: user, groups, capabilities, no_new_privs.
func secure(command *process.Command, security *runtimeapi.LinuxContainerSecurityContext) error {
	if name := security.GetRunAsUsername(); name != "" {
		command.User.Name = name
	}
	if user := security.GetRunAsUser(); user != nil {
		uid := uint32(user.GetValue())
		command.User.UID, command.User.Name = &uid, ""
	}
	if group := security.GetRunAsGroup(); group != nil {
		gid := uint32(group.GetValue())
		command.User.GID = &gid
	}
	for _, g := range security.GetSupplementalGroups() {
		command.User.Groups = append(command.User.Groups, uint32(g))
	}
	command.User.Strict = security.GetSupplementalGroupsPolicy() == runtimeapi.SupplementalGroupsPolicy_Strict
	command.NoNewPrivs = security.GetNoNewPrivs()
	if security.GetPrivileged() {
		return nil
	}
	kept, err := keptCapabilities(security.GetCapabilities())
	if err != nil {
		return err
	}
	for number, name := range capabilities {
		if !slices.Contains(kept, name) {
			command.DropCaps = append(command.DropCaps, number)
		}
	}
	return nil
}

// keptCapabilities adds to and takes from the default, ALL first.
func keptCapabilities(c *runtimeapi.Capability) ([]string, error) {
	add, drop := normalize(c.GetAddCapabilities()), normalize(c.GetDropCapabilities())
	for _, name := range slices.Concat(add, drop) {
		if name != "ALL" && !slices.Contains(capabilities[:], name) {
			return nil, fmt.Errorf("capability %q is not known; see capabilities(7), without CAP_", name)
		}
	}
	kept := slices.Clone(defaultCapabilities[:])
	if slices.Contains(add, "ALL") {
		kept = slices.Clone(capabilities[:])
	}
	if slices.Contains(drop, "ALL") {
		kept = nil
	}
	for _, name := range add {
		if name != "ALL" && !slices.Contains(kept, name) {
			kept = append(kept, name)
		}
	}
	return slices.DeleteFunc(kept, func(name string) bool { return slices.Contains(drop, name) }), nil
}

func normalize(names []string) []string {
	var out []string
	for _, name := range names {
		out = append(out, strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
	}
	return out
}

// The table above and the kernel's header must agree on the last entry.
var _ = [1]struct{}{}[len(capabilities)-1-unix.CAP_LAST_CAP]
