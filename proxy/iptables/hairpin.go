package iptables

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// loopMatch is a classic BPF program for -m bpf that accepts a packet whose source is its destination: after
// translation that is an endpoint that has dialled itself. No other match compares two fields, and without
// it every endpoint needs a chain of its own.
func loopMatch(ipv6 bool) string {
	const (
		loadWord  = "32 0 0 %d" // A = packet[k:k+4]
		toX       = "7 0 0 0"   // X = A
		jumpEqual = "29 0 %d 0" // A == X: go on, else skip k
		accept    = "6 0 0 65535"
		reject    = "6 0 0 0"
	)
	source, destination, words := 12, 16, 1 // offsets in the IPv4 header (RFC 791)
	if ipv6 {
		source, destination, words = 8, 24, 4 // in the IPv6 header (RFC 8200)
	}
	var program []string
	for i := range words {
		left := 4 * (words - 1 - i) // instructions of the words that follow
		program = append(program, fmt.Sprintf(loadWord, source+4*i), toX, fmt.Sprintf(loadWord, destination+4*i), fmt.Sprintf(jumpEqual, left+1))
	}
	program = append(program, accept, reject)
	return fmt.Sprintf("-m bpf --bytecode \"%d,%s\"", len(program), strings.Join(program, ","))
}

// matchesLoops tries in a network namespace of its own, which goes away at once, whether the kernel and
// iptables have -m bpf.
func (t tool) matchesLoops(ctx context.Context) bool {
	done := make(chan bool)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and its namespace with it
		if unix.Unshare(unix.CLONE_NEWNET) != nil {
			done <- false
			return
		}
		text := fmt.Sprintf("*nat\n:%[1]sPROBE - [0:0]\n-A %[1]sPROBE %[2]s -j RETURN\nCOMMIT\n", prefix, loopMatch(t.ipv6))
		done <- t.restore(ctx, text) == nil
	}()
	return <-done
}
