package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/names"
	podplan "svcplane/node/pod"
)

// podDir is where everything of a pod is kept but its logs.
func (n *Node) podDir(pod *corev1.Pod) string {
	return filepath.Join(n.cfg.Dir, "pods", string(pod.UID))
}

// logDir is where the logs of a pod are; the name tells people whose they are.
func (n *Node) logDir(pod *corev1.Pod) string {
	return filepath.Join(n.cfg.Dir, "logs", strings.Join([]string{pod.Namespace, pod.Name, string(pod.UID)}, "_"))
}

// sandboxConfig describes the sandbox of a pod to the runtime.
func (n *Node) sandboxConfig(pod *corev1.Pod, attempt uint32) (*runtimeapi.PodSandboxConfig, error) {
	host, domain := names.Hostname(pod, n.cfg.Domain)
	hostname, err := names.KernelHostname(pod, host, domain)
	if err != nil {
		return nil, err
	}
	if pod.Spec.HostNetwork && pod.Spec.HostnameOverride == nil {
		if hostname, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("reading the host's name: %w", err)
		}
	}
	resolver, _ := names.DNS(pod, n.cfg.DNSAddrs, n.cfg.Domain, n.hostResolver())
	linux, err := n.sandboxLinux(pod)
	if err != nil {
		return nil, err
	}
	logs := n.logDir(pod)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, fmt.Errorf("making the log directory of pod %s: %w", podText(pod), err)
	}
	n.limitSandbox(linux, pod)
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		Hostname:     hostname,
		LogDirectory: logs,
		DnsConfig:    &runtimeapi.DNSConfig{Servers: resolver.Servers, Searches: resolver.Searches, Options: resolver.Options},
		PortMappings: portMappings(pod),
		Labels:       podplan.Labels(pod),
		Annotations:  sandboxAnnotations(pod),
		Linux:        linux,
	}, nil
}

// makeSandbox has the runtime make a sandbox for a pod.
func (n *Node) makeSandbox(ctx context.Context, pod *corev1.Pod, attempt uint32) (string, error) {
	config, err := n.sandboxConfig(pod, attempt)
	if err != nil {
		return "", err
	}
	handler, err := n.handler(ctx, pod)
	if err != nil {
		return "", err
	}
	return n.cfg.Runtime.RunPodSandbox(ctx, config, handler)
}

// warnDNS says what of the pod's resolver configuration did not fit.
func (n *Node) warnDNS(pod *corev1.Pod) {
	_, warnings := names.DNS(pod, n.cfg.DNSAddrs, n.cfg.Domain, n.hostResolver())
	for _, w := range warnings {
		n.cfg.Recorder.Event(podRef(pod), corev1.EventTypeWarning, "DNSConfigForming", w)
	}
}

// sandboxAnnotations adds the grace period to the pod's own: it is needed when the pod is found again after
// its object is gone.
func sandboxAnnotations(pod *corev1.Pod) map[string]string {
	a := make(map[string]string, len(pod.Annotations)+1)
	for k, v := range pod.Annotations {
		a[k] = v
	}
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		a[podplan.AnnotationPodGrace] = fmt.Sprint(*g)
	}
	return a
}

func portMappings(pod *corev1.Pod) []*runtimeapi.PortMapping {
	var list []*runtimeapi.PortMapping
	for _, group := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range group {
			for _, p := range group[i].Ports {
				if p.HostPort == 0 || pod.Spec.HostNetwork {
					continue
				}
				list = append(list, &runtimeapi.PortMapping{
					HostIp:        p.HostIP,
					HostPort:      p.HostPort,
					ContainerPort: p.ContainerPort,
					Protocol:      criProtocol(p.Protocol),
				})
			}
		}
	}
	return list
}

func criProtocol(p corev1.Protocol) runtimeapi.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return runtimeapi.Protocol_UDP
	case corev1.ProtocolSCTP:
		return runtimeapi.Protocol_SCTP
	}
	return runtimeapi.Protocol_TCP
}

func (n *Node) sandboxLinux(pod *corev1.Pod) (*runtimeapi.LinuxPodSandboxConfig, error) {
	options, err := n.namespaceOptions(pod)
	if err != nil {
		return nil, err
	}
	security := &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: options}
	linux := &runtimeapi.LinuxPodSandboxConfig{SecurityContext: security}
	sc := pod.Spec.SecurityContext
	if sc == nil {
		return linux, nil
	}
	if sc.RunAsUser != nil {
		security.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
	}
	if sc.RunAsGroup != nil {
		security.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
	}
	security.SupplementalGroups = groups(sc)
	for _, s := range sc.Sysctls {
		if linux.Sysctls == nil {
			linux.Sysctls = map[string]string{}
		}
		linux.Sysctls[strings.ReplaceAll(s.Name, "/", ".")] = s.Value
	}
	return linux, nil
}

func groups(sc *corev1.PodSecurityContext) []int64 {
	list := append([]int64{}, sc.SupplementalGroups...)
	if sc.FSGroup != nil {
		list = append(list, *sc.FSGroup)
	}
	return list
}

// namespaceOptions says which namespaces a pod has of its own. A user namespace gets its users.
func (n *Node) namespaceOptions(pod *corev1.Pod) (*runtimeapi.NamespaceOption, error) {
	mode := func(host bool, otherwise runtimeapi.NamespaceMode) runtimeapi.NamespaceMode {
		if host {
			return runtimeapi.NamespaceMode_NODE
		}
		return otherwise
	}
	pid := mode(pod.Spec.HostPID, runtimeapi.NamespaceMode_CONTAINER)
	if pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace {
		pid = runtimeapi.NamespaceMode_POD
	}
	options := &runtimeapi.NamespaceOption{
		Network: mode(pod.Spec.HostNetwork, runtimeapi.NamespaceMode_POD),
		Pid:     pid,
		Ipc:     mode(pod.Spec.HostIPC, runtimeapi.NamespaceMode_POD),
	}
	if pod.Spec.HostUsers == nil || *pod.Spec.HostUsers {
		return options, nil
	}
	ids, err := n.users.of(pod.UID)
	if err != nil {
		return nil, fmt.Errorf("giving pod %s users of its own: %w", podText(pod), err)
	}
	options.UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ids, Gids: ids}
	return options, nil
}

// handler gives the name by which the runtime knows the RuntimeClass of a pod; empty: the default.
func (n *Node) handler(ctx context.Context, pod *corev1.Pod) (string, error) {
	name := pod.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return "", nil
	}
	class, err := n.cfg.Client.NodeV1().RuntimeClasses().Get(ctx, *name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("looking for the pod's RuntimeClass: %w", err)
	}
	return class.Handler, nil
}

// hostResolver is the node's own resolv.conf, read again each time: hosts move between networks.
func (n *Node) hostResolver() names.Resolver {
	file, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return names.Resolver{}
	}
	return names.ParseResolvConf(file)
}
