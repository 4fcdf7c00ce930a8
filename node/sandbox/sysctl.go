package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

const forwardPath = "/proc/sys/net/ipv4/ip_forward"

// Forwarding reads whether this network namespace routes packets: "0" or "1". Keep what it was before
// EnableForwarding for RestoreForwarding.
func Forwarding() (string, error) {
	raw, err := os.ReadFile(forwardPath)
	if err != nil {
		return "", fmt.Errorf("read net.ipv4.ip_forward: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// EnableForwarding lets this network namespace route packets.
func EnableForwarding() error {
	now, err := Forwarding()
	if err != nil || now == "1" {
		return err
	}
	return writeSysctl(forwardPath, "1")
}

// RestoreForwarding sets the value that Forwarding gave before.
func RestoreForwarding(old string) error {
	if old != "0" && old != "1" {
		return fmt.Errorf("restore net.ipv4.ip_forward: recorded value %q is neither 0 nor 1", old)
	}
	return writeSysctl(forwardPath, old)
}

// hostSysctls sets up the host end: it answers ARP for the gateway, sends no redirects when a pod reaches
// itself through a Service (the packet leaves by the link it came from), and takes no part in IPv6.
func hostSysctls(link string) error {
	conf := "/proc/sys/net/ipv4/conf/" + link + "/"
	return errors.Join(
		writeSysctl(conf+"proxy_arp", "1"),
		writeSysctl(conf+"send_redirects", "0"),
		writeSysctl(conf+"accept_redirects", "0"),
		writeSysctl(conf+"rp_filter", "1"),
		// proxy_delay is in ticks of 10 ms and random up to its value: the first packet must not wait.
		writeSysctl("/proc/sys/net/ipv4/neigh/"+link+"/proxy_delay", "0"),
		optionalSysctl("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", "1"),
	)
}

// podSysctls sets up the pod's end, from within its namespace.
func podSysctls() error {
	conf := "/proc/sys/net/ipv4/conf/" + podLink + "/"
	return errors.Join(
		writeSysctl(conf+"accept_redirects", "0"),
		optionalSysctl("/proc/sys/net/ipv6/conf/"+podLink+"/disable_ipv6", "1"),
	)
}

// SetPodSysctls writes the sysctls a pod asks for (net.* and kernel.* of its own namespaces) from within
// those; names have dots or slashes.
func SetPodSysctls(values map[string]string) error {
	var errs []error
	for name, value := range values {
		path := strings.ReplaceAll(name, ".", "/")
		if !strings.HasPrefix(path, "net/") || strings.Contains(path, "..") {
			errs = append(errs, fmt.Errorf("sysctl %q: only net.* can be set for a pod", name))
			continue
		}
		errs = append(errs, writeSysctl("/proc/sys/"+path, value))
	}
	return errors.Join(errs...)
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
