package runtime

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"svcplane/node/runtime/rootfs"
	"svcplane/node/runtime/sandbox"
)

// SetNodeIPs follows the node's addresses: it puts the routes to all pods in order. To be called when Ready is closed.
func (r *Runtime) SetNodeIPs(addrs []netip.Addr) error {
	r.mu.Lock()
	r.network.NodeIPs = addrs
	var joined []*sandboxEntry
	for _, s := range r.sandboxes {
		if s.State != sandboxStopped && !hostNetwork(s.config) { // one that is being made, too: its routes may be the old ones
			joined = append(joined, s)
		}
	}
	r.mu.Unlock()
	var errs []error
	for _, s := range joined {
		errs = append(errs, r.reroute(s))
	}
	return errors.Join(errs...)
}

func (r *Runtime) reroute(s *sandboxEntry) error {
	s.op.Lock()
	defer s.op.Unlock()
	r.mu.Lock()
	gone, network := s.gone || s.State != sandboxReady, r.network
	r.mu.Unlock()
	if gone {
		return nil
	}
	if err := network.Reroute(s.ID, s.addrs()); err != nil {
		return fmt.Errorf("lead to pod %s from the node's new address: %w", podName(s.config), err)
	}
	return nil
}

// net is the network as pods are joined to it now.
func (r *Runtime) net() sandbox.Network {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.network
}

// applyRules renders our netfilter rules from all sandboxes there are.
func (r *Runtime) applyRules() error {
	r.rules.Lock() // what was seen last is also applied last
	defer r.rules.Unlock()
	var ports []sandbox.PortMap
	r.mu.Lock()
	for _, s := range r.sandboxes {
		if s.State != sandboxStopped && !s.gone {
			ports = append(ports, s.hostPorts()...)
		}
	}
	r.mu.Unlock()
	var errs []error
	for _, pods := range []netip.Prefix{r.cfg.PodCIDR, r.cfg.PodCIDR6} {
		if pods.IsValid() {
			errs = append(errs, sandbox.Rules{Pods: pods, Local: r.cfg.NoMasquerade, Ports: ports, Own: r.cfg.Own}.Apply())
		}
	}
	return errors.Join(errs...)
}

// maxSweepRest bounds how long the end of a pod waits for the end of its flows.
const maxSweepRest = time.Second

// endStaleFlows removes from the kernel's connection table what holds on to pods and host ports of the past. Many pods
// that go at once share a look at the table: one that began after a pod had gone counts for that pod, and the next rests ten times
// as long as the last took, so that a large table costs a tenth of a processor at most. What fails is tried again with the next
// pod, and holds nobody up.
func (r *Runtime) endStaleFlows() {
	asked := r.sweep.asked.Add(1)
	r.sweep.Lock()
	defer r.sweep.Unlock()
	if r.sweep.done >= asked {
		return
	}
	time.Sleep(time.Until(r.sweep.rests))
	began := time.Now()
	defer func() { r.sweep.rests = time.Now().Add(min(10*time.Since(began), maxSweepRest)) }()
	upTo := r.sweep.asked.Load()
	flows := sandbox.Flows{Alive: map[netip.Addr]bool{}}
	r.mu.Lock()
	for _, s := range r.sandboxes {
		if s.State != sandboxStopped && !s.gone {
			flows.Ports = append(flows.Ports, s.hostPorts()...)
			for _, addr := range s.addrs() {
				flows.Alive[addr] = true
			}
		}
	}
	r.mu.Unlock()
	var errs []error
	for _, flows.Pods = range []netip.Prefix{r.cfg.PodCIDR, r.cfg.PodCIDR6} {
		if flows.Pods.IsValid() {
			errs = append(errs, flows.EndStale())
		}
	}
	if err := errors.Join(errs...); err != nil {
		klog.ErrorS(err, "datagrams may go on to pods that have gone")
		return
	}
	r.sweep.done = upTo
}

// hostPorts are the ports of the node that lead to the pod.
func (s *sandboxEntry) hostPorts() []sandbox.PortMap {
	var list []sandbox.PortMap
	for _, m := range s.config.GetPortMappings() {
		if m.GetHostPort() == 0 || hostNetwork(s.config) {
			continue
		}
		host, err := netip.ParseAddr(m.GetHostIp())
		if err != nil || host.IsUnspecified() {
			host = netip.Addr{}
		}
		for _, addr := range s.addrs() {
			if host.IsValid() && host.Is4() != addr.Is4() {
				continue
			}
			list = append(list, sandbox.PortMap{
				Protocol: m.GetProtocol().String(), HostIP: host, HostPort: uint16(m.GetHostPort()),
				Pod: addr, PodPort: uint16(m.GetContainerPort()), Link: sandbox.LinkName(s.ID),
			})
		}
	}
	return list
}

// checkPorts refuses host ports that can't be served; with r.mu held.
func (r *Runtime) checkPorts(entry *sandboxEntry) error {
	for _, mine := range entry.hostPorts() {
		if mine.Protocol == "SCTP" {
			return status.Errorf(codes.InvalidArgument, "host port %d/SCTP of pod %s: only TCP and UDP are served", mine.HostPort, podName(entry.config))
		}
		for _, other := range r.sandboxes {
			if other == entry || other.State == sandboxStopped {
				continue
			}
			taken := slices.ContainsFunc(other.hostPorts(), func(p sandbox.PortMap) bool {
				return p.Protocol == mine.Protocol && p.HostPort == mine.HostPort &&
					(p.HostIP == mine.HostIP || !p.HostIP.IsValid() || !mine.HostIP.IsValid())
			})
			if taken {
				return status.Errorf(codes.AlreadyExists, "host port %d/%s of pod %s: pod %s has it; give one of them another hostPort",
					mine.HostPort, mine.Protocol, podName(entry.config), podName(other.config))
			}
		}
	}
	return nil
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
		for _, addr := range entry.addrs() {
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
