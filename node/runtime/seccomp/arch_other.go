//go:build !amd64 && !arm64 && !arm && !riscv64

package seccomp

// architectures has no table for this one.
func architectures() []architecture { return nil }
