// Package seccomp makes filters of system calls, programs for the kernel's classic BPF machine, of profiles as container
// runtimes have them: Docker's default (github.com/moby/profiles) or a file in the form of the OCI runtime specification.
//
//	profile ──▶ what becomes of each call, by architecture ──▶ a tree of comparisons ──▶ struct sock_filter
//	            (calls that a rule names, and the gaps)        (bpf.Instruction)         (process installs it)
//
// Invariants:
//   - A profile means what it means to runc with libseccomp: an unconditional rule outweighs the others of its call, calls
//     of an architecture that is not listed end the thread, names that an architecture has not are passed over, and calls
//     newer than all that a profile names do not exist (ENOSYS).
//   - What cannot be expressed is an error that names it. No rule is left out in silence.
//   - The package is pure: what it makes is installed by package process.
package seccomp
