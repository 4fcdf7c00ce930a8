package runtime

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/podnet"
	"svcplane/node/runtime/rootfs"
)

// SetNodeIPs follows the node's addresses: it puts the routes to all pods in order. To be called when Ready is closed.
func (r *Runtime) SetNodeIPs(addrs []netip.Addr) error { return r.network.SetNodeIPs(addrs) }

// netPod is what the network knows of a pod that is not in the node's own.
func (s *sandboxEntry) netPod() podnet.Pod {
	pod := podnet.Pod{ID: s.ID, Name: podName(s.config), IP: s.IP, IP6: s.IP6}
	for _, m := range s.config.GetPortMappings() {
		if m.GetHostPort() == 0 {
			continue
		}
		host, err := netip.ParseAddr(m.GetHostIp())
		if err != nil || host.IsUnspecified() {
			host = netip.Addr{}
		}
		pod.Ports = append(pod.Ports, podnet.Port{
			Protocol: m.GetProtocol().String(), HostIP: host, HostPort: uint16(m.GetHostPort()), PodPort: uint16(m.GetContainerPort()),
		})
	}
	return pod
}

// portStatus gives a port that can't be served the code of CRI.
func portStatus(err error) error {
	var port *podnet.PortError
	switch {
	case !errors.As(err, &port):
		return err
	case port.Taken:
		return status.Error(codes.AlreadyExists, port.Error())
	}
	return status.Error(codes.InvalidArgument, port.Error())
}

// Files of /etc that each pod has its own of.
const (
	fileResolv   = "resolv.conf"
	fileHosts    = "hosts"
	fileHostname = "hostname"
)

// writePodFiles makes the pod's files of /etc that its config gives the contents of.
func (r *Runtime) writePodFiles(entry *sandboxEntry) error {
	files := map[string]string{}
	if dns := entry.config.GetDnsConfig(); dns != nil {
		files[fileResolv] = resolvConf(dns)
	}
	if !hostNetwork(entry.config) {
		name := entry.config.GetHostname()
		files[fileHostname] = name + "\n"
		files[fileHosts] = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
		pod := entry.netPod()
		for _, addr := range pod.Addrs() {
			files[fileHosts] += fmt.Sprintf("%s\t%s\n", addr, name)
		}
	}
	for name, text := range files {
		// Readable for all users a container may run as; the directory above is closed.
		if err := os.WriteFile(filepath.Join(r.store.sandboxDir(entry.ID), name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the pod's /etc/%s: %w", name, err)
		}
	}
	return nil
}

// podFileMounts shows the pod's files of /etc where the container's config mounts nothing there.
func (r *Runtime) podFileMounts(sandboxID string, taken []rootfs.Mount, fromHost bool) []rootfs.Mount {
	var mounts []rootfs.Mount
	for _, name := range []string{fileResolv, fileHosts, fileHostname} {
		target := "/etc/" + name
		if slices.ContainsFunc(taken, func(m rootfs.Mount) bool { return filepath.Clean(m.Target) == target }) {
			continue
		}
		source := filepath.Join(r.store.sandboxDir(sandboxID), name)
		if _, err := os.Stat(source); err == nil {
			mounts = append(mounts, rootfs.Mount{Source: source, Target: target})
		} else if _, err := os.Stat(target); err == nil && fromHost {
			mounts = append(mounts, rootfs.Mount{Source: target, Target: target, ReadOnly: true})
		}
	}
	return mounts
}

// resolvConf renders resolv.conf(5).
func resolvConf(dns *runtimeapi.DNSConfig) string {
	var b strings.Builder
	for _, server := range dns.GetServers() {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.GetSearches()) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.GetSearches(), " "))
	}
	if len(dns.GetOptions()) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.GetOptions(), " "))
	}
	return b.String()
}
