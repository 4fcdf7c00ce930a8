package shim

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"svcplane/node/runtime/echo"
	"svcplane/node/runtime/process"
	"svcplane/node/runtime/rootfs"
)

// Arg is the hidden first argument that makes the binary a shim; the second is the directory. EarlierArg is what a server
// of an earlier release gives: its file may have been exchanged before it starts a shim.
const (
	Arg        = "__svcplane-shim"
	EarlierArg = "__svcplane-holder"
)

// SandboxSpec asks for a pod's namespaces to be kept.
type SandboxSpec struct {
	ID         string             `json:"id"`
	Namespaces process.Namespaces `json:"namespaces"` // net, uts and ipc; opened at once
	SharedPID  bool               `json:"sharedPID"`  // all containers in one PID namespace
}

// Sandbox is a kept pod.
type Sandbox struct {
	ID         string             `json:"id"`
	Namespaces process.Namespaces `json:"namespaces"` // valid while the shim lives
}

// ContainerSpec is all that is needed to run a container. Echo or Process is set.
type ContainerSpec struct {
	ID        string   `json:"id"`
	SandboxID string   `json:"sandboxID"`
	LogPath   string   `json:"logPath,omitempty"`
	Root      RootSpec `json:"root"`
	Echo      *Echo    `json:"echo,omitempty"`
	Process   *Process `json:"process,omitempty"`
}

// What a container may need of a shim that earlier ones have not.
const (
	needSeccomp      = "seccomp"
	needStrictGroups = "supplementalGroupsPolicy"
	needUsers        = "hostUsers"
)

// needs lists what a shim has to know to run the container. They are in the path of the request: a shim passes over fields
// that it does not know, and with one of these the container would run without a restriction.
func (s ContainerSpec) needs() []string {
	var list []string
	if s.Process != nil && s.Process.Command.Filter != nil {
		list = append(list, needSeccomp)
	}
	if s.Root.Users != nil {
		list = append(list, needUsers)
	}
	if s.Process != nil && s.Process.Command.User.Strict {
		list = append(list, needStrictGroups)
	}
	return list
}

// unknownNeed is the first need that this shim does not know.
func unknownNeed(needs string) (string, bool) {
	for need := range strings.SplitSeq(needs, ",") {
		if !slices.Contains([]string{needSeccomp, needStrictGroups, needUsers}, need) {
			return need, true
		}
	}
	return "", false
}

// RootSpec says what file system and processes the container, or an exec into it, sees.
type RootSpec struct {
	rootfs.Spec
	MountNS string            `json:"mountNS"` // the server's mount namespace, from which the container's is made
	Protect rootfs.Protection `json:"protect"`
	HostPID bool              `json:"hostPID,omitempty"`
	PIDNS   string            `json:"pidNS,omitempty"` // another container's PID namespace, to be shared; else the sandbox decides
	// Cgroup is where its processes are, a path of package cgroup; empty: where the shim is.
	Cgroup string `json:"cgroup,omitempty"`
}

// Echo is a container of the builtin image.
type Echo struct {
	Pod       string      `json:"pod"`
	Namespace string      `json:"namespace"`
	Node      string      `json:"node"`
	IP        netip.Addr  `json:"ip"`
	Ports     []echo.Port `json:"ports"`
}

// Process is a container that runs a command.
type Process struct {
	Command   process.Command `json:"command"`
	TTY       bool            `json:"tty,omitempty"`
	Stdin     bool            `json:"stdin,omitempty"`     // keep the standard input open for attached clients; else it is empty
	StdinOnce bool            `json:"stdinOnce,omitempty"` // and close it when the first of them closes its own
}

// States of a container.
const (
	Running = "running"
	Exited  = "exited"
)

// ContainerStatus is what the shim knows of a container.
type ContainerStatus struct {
	ID        string     `json:"id"`
	SandboxID string     `json:"sandboxID"`
	State     string     `json:"state"`
	Process   process.ID `json:"process"` // zero for echo
	Init      process.ID `json:"init"`    // keeps mount and PID namespace; zero for echo without exec
	StartedAt time.Time  `json:"startedAt"`
	// User is whom the process began as; nil for echo, and from a shim of an earlier version.
	User       *process.Identity `json:"user,omitempty"`
	FinishedAt time.Time         `json:"finishedAt"`
	ExitCode   int               `json:"exitCode"` // 128 + signal where one ended it
	Reason     string            `json:"reason"`   // Completed, Error, OOMKilled
	Message    string            `json:"message"`
	Cgroup     string            `json:"cgroup,omitempty"` // where its processes are; a shim of an earlier version knows of none
}

// State is all a shim has. Seq grows with every change of a container.
type State struct {
	Shim       process.ID        `json:"holder"`
	Seq        uint64            `json:"seq"`
	Sandboxes  []Sandbox         `json:"sandboxes"`
	Containers []ContainerStatus `json:"containers"`
}

type stopRequest struct {
	GraceMillis int64 `json:"graceMillis"`
}

type envReply struct {
	Init process.ID `json:"init"`
	View bool       `json:"view"` // it is a view; a shim of an earlier version, which has none, does not say so
	// Users: it is in a user namespace of the pod's own. Earlier versions have none either.
	Users bool `json:"users,omitempty"`
}

type failure struct {
	Error string `json:"error"`
}
