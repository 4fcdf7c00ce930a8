package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	forwardPath  = "/proc/sys/net/ipv4/ip_forward"
	forwardPath6 = "/proc/sys/net/ipv6/conf/all/forwarding"
)

// Routing is whether this network namespace routes packets, "0" or "1" for each family, and which of its links listen to
// router advertisements although they must not any more when it does (RFC 4861 6.2.2).
type Routing struct {
	IPv4, IPv6 string   // IPv6 is empty where it does not matter
	Advertised []string // links that had accept_ra 1
}

// ReadRouting reads it. Keep what it was before Enable for Restore.
func ReadRouting(ipv6 bool) (Routing, error) {
	var r Routing
	var err error
	if r.IPv4, err = readSysctl(forwardPath); err != nil || !ipv6 {
		return r, err
	}
	if r.IPv6, err = readSysctl(forwardPath6); err != nil {
		return r, fmt.Errorf("%w: two address families need a kernel with IPv6", err)
	}
	links, err := filepath.Glob("/proc/sys/net/ipv6/conf/*")
	if err != nil {
		return r, err
	}
	for _, dir := range links {
		if value, err := readSysctl(dir + "/accept_ra"); err == nil && value == "1" {
			r.Advertised = append(r.Advertised, filepath.Base(dir))
		}
	}
	return r, nil
}

// Enable lets this network namespace route packets. Links that have their default route by router advertisement keep it.
func (r Routing) Enable() error {
	errs := []error{setSysctl(forwardPath, "1")}
	if r.IPv6 == "0" {
		errs = append(errs, r.acceptRA("2"))
	}
	if r.IPv6 != "" {
		errs = append(errs, setSysctl(forwardPath6, "1"))
	}
	return errors.Join(errs...)
}

// Restore sets what ReadRouting gave before.
func (r Routing) Restore() error {
	if r.IPv4 != "0" && r.IPv4 != "1" {
		return fmt.Errorf("restore net.ipv4.ip_forward: recorded value %q is neither 0 nor 1", r.IPv4)
	}
	errs := []error{writeSysctl(forwardPath, r.IPv4)}
	if r.IPv6 == "0" {
		errs = append(errs, writeSysctl(forwardPath6, "0"), r.acceptRA("1"))
	}
	return errors.Join(errs...)
}

func (r Routing) acceptRA(value string) error {
	var errs []error
	for _, link := range r.Advertised {
		errs = append(errs, optionalSysctl("/proc/sys/net/ipv6/conf/"+link+"/accept_ra", value))
	}
	return errors.Join(errs...)
}

// hostSysctls sets up the host end: it answers ARP for the gateway, sends no redirects when a pod reaches
// itself through a Service (the packet leaves by the link it came from), and takes no part in IPv6 unless pods have it.
func hostSysctls(link string, ipv6 bool) error {
	conf := "/proc/sys/net/ipv4/conf/" + link + "/"
	return errors.Join(
		writeSysctl(conf+"proxy_arp", "1"),
		writeSysctl(conf+"send_redirects", "0"),
		writeSysctl(conf+"accept_redirects", "0"),
		writeSysctl(conf+"rp_filter", "1"),
		// proxy_delay is in ticks of 10 ms and random up to its value: the first packet must not wait.
		writeSysctl("/proc/sys/net/ipv4/neigh/"+link+"/proxy_delay", "0"),
		linkSysctls6(link, ipv6),
	)
}

// podSysctls sets up the pod's end, from within its namespace.
func podSysctls(ipv6 bool) error {
	conf := "/proc/sys/net/ipv4/conf/" + podLink + "/"
	return errors.Join(
		writeSysctl(conf+"accept_redirects", "0"),
		linkSysctls6(podLink, ipv6),
	)
}

// linkSysctls6 makes a link take part in IPv6 with nothing but the addresses and neighbours that it is given, or not at all.
func linkSysctls6(link string, ipv6 bool) error {
	conf := "/proc/sys/net/ipv6/conf/" + link + "/"
	if !ipv6 {
		return optionalSysctl(conf+"disable_ipv6", "1")
	}
	return errors.Join(
		writeSysctl(conf+"accept_ra", "0"),
		writeSysctl(conf+"accept_redirects", "0"),
		writeSysctl(conf+"addr_gen_mode", "1"), // none: no link-local address, so nothing to detect duplicates of
		writeSysctl(conf+"disable_ipv6", "0"),
	)
}

// podSysctlPrefixes are of what network and IPC namespaces have of their own (namespaces(7)).
var podSysctlPrefixes = []string{"net/", "kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/"}

// SetPodSysctls writes the sysctls a pod asks for, those of its own network and IPC namespaces, from within these; names
// have dots or slashes.
func SetPodSysctls(values map[string]string) error {
	var errs []error
	for name, value := range values {
		path := strings.ReplaceAll(name, ".", "/")
		own := slices.ContainsFunc(podSysctlPrefixes, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
		if !own || strings.Contains(path, "..") {
			errs = append(errs, fmt.Errorf("sysctl %q: a pod has only net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.* of its own", name))
			continue
		}
		errs = append(errs, writeSysctl("/proc/sys/"+path, value))
	}
	return errors.Join(errs...)
}

func readSysctl(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// setSysctl writes only what is not so already: the network of a container may be read-only and right.
func setSysctl(path, value string) error {
	if now, err := readSysctl(path); err != nil || now == value {
		return err
	}
	return writeSysctl(path, value)
}

func writeSysctl(path, value string) error {
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl to %s: %w", value, err)
	}
	return nil
}

// optionalSysctl is for what a kernel without IPv6 lacks.
func optionalSysctl(path, value string) error {
	err := writeSysctl(path, value)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
