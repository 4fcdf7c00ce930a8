package server

import (
	"context"
	"errors"
	"fmt"
	"os"

	"svcplane/address"
	"svcplane/dns"
	"svcplane/node"
	"svcplane/node/runtime"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/iptables"
)

// CleanUp removes what a server that has ended left in the kernel, and its data directory, if that is asked for.
func CleanUp(ctx context.Context, dataDir string, data bool) error {
	if _, err := os.Stat(dataDir); errors.Is(err, os.ErrNotExist) {
		// rules and links can be there without it: nothing to lock, much to remove
		return cleanUpAlone(ctx, dataDir)
	}
	lock, err := lockDataDir(dataDir)
	if err != nil {
		return err
	}
	defer lock.release()
	if err := cleanUpAlone(ctx, dataDir); err != nil {
		return err
	}
	if !data {
		return nil
	}
	if err := os.RemoveAll(dataDir); err != nil {
		return fmt.Errorf("removing the data directory: %w", err)
	}
	return nil
}

// cleanUpAlone leaves alone what a server serves with that has another data directory.
func cleanUpAlone(ctx context.Context, dataDir string) error {
	exclusive, err := onlyProxy("")
	if err != nil {
		return err
	}
	if exclusive != nil {
		defer exclusive.Close()
	}
	return cleanUpKernel(ctx, dataDir)
}

// cleanUpKernel does every step, also after one that failed.
func cleanUpKernel(ctx context.Context, dataDir string) error {
	var errs []error
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"pods, their links and namespaces", func() error { return runtime.Cleanup(ctx, RuntimeDir(dataDir)) }},
		{"the pods' volumes", func() error { return node.Cleanup(nodeDir(dataDir)) }},
		{"the cluster DNS address", dns.Cleanup},
		{"the node's spare address", address.Cleanup},
		{"the sockets that wait for the next start", dropSockets},
		{"eBPF programs", ebpf.Cleanup},
		{"iptables chains", func() error { return iptables.Cleanup(ctx) }},
	} {
		if err := step.do(); err != nil {
			errs = append(errs, fmt.Errorf("removing %s: %w", step.what, err))
		}
	}
	return errors.Join(errs...)
}
