package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"svcplane/ingress"
)

// keepSockets starts a process that keeps the ingress's listening sockets until the next start, or for a while, so
// that connections wait instead of being refused.
func keepSockets(name string, limit time.Duration) func([]*os.File) error {
	return func(sockets []*os.File) error {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding the program of the holder: %w", err)
		}
		cmd := exec.Command(exe, "ingress", "hold", name, limit.String(), strconv.Itoa(len(sockets)))
		cmd.ExtraFiles = sockets
		// a session of its own: what ends this process's group is not meant for it
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return fmt.Errorf("starting the holder: %w", err)
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("starting the holder: %w", err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			return errors.Join(fmt.Errorf("the holder of the sockets did not start: %w", err), cmd.Wait())
		}
		return cmd.Process.Release()
	}
}

// newIngressHold is what the holder runs.
func newIngressHold() *cobra.Command {
	return &cobra.Command{
		Use:    "hold NAME FOR COUNT",
		Hidden: true,
		Args:   cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			limit, err := time.ParseDuration(args[1])
			if err != nil {
				return err
			}
			count, err := strconv.Atoi(args[2])
			if err != nil {
				return err
			}
			var sockets []*os.File
			for i := range count {
				sockets = append(sockets, os.NewFile(uintptr(3+i), "socket")) // where exec.Cmd.ExtraFiles begin
			}
			var s signals
			defer s.outlive()()
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			return ingress.Hold(ctx, args[0], sockets, func() { fmt.Fprintln(cmd.OutOrStdout(), "holding") })
		},
	}
}

// takeSockets gets the listening sockets of an ingress that was stopped a moment ago on the same addresses.
func takeSockets(cfg *Config) ([]net.Listener, error) {
	if !cfg.Enabled(partIngress) {
		return nil, nil
	}
	return ingress.Take(ingress.HolderName(cfg.HTTP, cfg.HTTPS))
}

// holds says whether one of the sockets is at an address.
func holds(sockets []net.Listener, at netip.AddrPort) bool {
	for _, l := range sockets {
		if have, err := netip.ParseAddrPort(l.Addr().String()); err == nil && have.Port() == at.Port() && sameAddr(have.Addr(), at.Addr()) {
			return true
		}
	}
	return false
}

// sameAddr: a socket for 0.0.0.0 calls itself ::, because it may be both.
func sameAddr(a, b netip.Addr) bool {
	return a.Unmap() == b.Unmap() || a.IsUnspecified() && b.IsUnspecified()
}

// dropSockets ends a holder, whatever addresses it keeps.
func dropSockets() error {
	names, err := holders()
	if err != nil {
		return err
	}
	return dropHolders(names)
}

// freePort ends the holders that keep sockets of a port, and says whether there was one: they wait for a start that did
// not come, since this one has other addresses than the last.
func freePort(port uint16) (bool, error) {
	names, err := holders()
	if err != nil {
		return false, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !ingress.HolderKeeps(name, port) })
	return len(names) > 0, dropHolders(names)
}

func dropHolders(names []string) error {
	var errs []error
	for _, name := range names {
		sockets, err := ingress.Take(name)
		errs = append(errs, err)
		for _, l := range sockets {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// holders are the names of the holders in this network namespace.
func holders() ([]string, error) {
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := ingress.HolderIn(lines.Text()); ok {
			names = append(names, name)
		}
	}
	return names, nil
}
