package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/downward"
	"svcplane/node/env"
	"svcplane/node/names"
	podplan "svcplane/node/pod"
	"svcplane/node/volume"
)

// launch is what the containers of one pod are started with.
type launch struct {
	pod       *corev1.Pod
	state     *podplan.State
	sandboxID string
	sandbox   *runtimeapi.PodSandboxConfig
	ips       []netip.Addr
	volumes   volume.Mounted
	waiting   map[string]podplan.Why                    // why containers do not run, as it was reported already
	tell      func(c *corev1.Container, message string) // what a container waits for, while it is started
}

// start brings up one container: image, creation, start, postStart. On failure it gives the waiting reason.
func (n *Node) start(ctx context.Context, l *launch, c *corev1.Container) *podplan.Why {
	ref := objectRef(l.pod, c)
	failed := func(reason string, err error) *podplan.Why {
		if now := (podplan.Why{Reason: reason, Message: statusText(err)}); l.waiting[c.Name] != now && ctx.Err() == nil {
			n.cfg.Recorder.Eventf(ref, corev1.EventTypeWarning, "Failed", "Error: %v", now.Message)
		}
		return &podplan.Why{Reason: reason, Message: statusText(err)}
	}
	image, bad := n.images.ensure(ctx, l.pod, c, l.sandbox, func(message string) { l.tell(c, message) })
	if bad != nil {
		if bad.Reason != l.waiting[c.Name].Reason && ctx.Err() == nil {
			n.cfg.Recorder.Eventf(ref, corev1.EventTypeWarning, "Failed", "Error: %v", bad.Reason)
		}
		return bad
	}
	attempt := uint32(0)
	if last := l.state.Latest(c.Name); last != nil {
		attempt = podplan.RestartCount(last) + 1
	} else {
		attempt = nextAttempt(filepath.Join(l.sandbox.LogDirectory, c.Name))
	}
	config, err := n.containerConfig(ctx, l, c, image, attempt)
	if err != nil {
		return failed("CreateContainerConfigError", err)
	}
	id, err := n.cfg.Runtime.CreateContainer(ctx, l.sandboxID, config, l.sandbox)
	if err != nil {
		return failed("CreateContainerError", err)
	}
	n.cfg.Recorder.Event(ref, corev1.EventTypeNormal, "Created", "Container created")
	if err := n.cfg.Runtime.StartContainer(ctx, id); err != nil {
		return failed("RunContainerError", err)
	}
	n.cfg.Recorder.Event(ref, corev1.EventTypeNormal, "Started", "Container started")
	return n.postStart(ctx, l, c, id)
}

// containerConfig describes a container to the runtime.
func (n *Node) containerConfig(ctx context.Context, l *launch, c *corev1.Container, image string, attempt uint32) (*runtimeapi.ContainerConfig, error) {
	services, err := n.services.List(everything)
	if err != nil {
		return nil, fmt.Errorf("listing services for the environment: %w", err)
	}
	links := l.pod.Spec.EnableServiceLinks == nil || *l.pod.Spec.EnableServiceLinks
	vars, err := env.Build(ctx, n.facts(l.pod, l.ips), c, env.ForServices(services, n.cfg.MasterService, l.pod.Namespace, links), n.objects)
	if err != nil {
		return nil, err
	}
	annotations, err := podplan.ContainerAnnotations(l.pod, c, attempt)
	if err != nil {
		return nil, err
	}
	mounts, err := n.mounts(ctx, l, c, vars, attempt)
	if err != nil {
		return nil, err
	}
	linux, err := n.containerLinux(ctx, l.pod, c)
	if err != nil {
		return nil, err
	}
	if err := shareTarget(linux.SecurityContext.NamespaceOptions, l, c.Name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(l.sandbox.LogDirectory, c.Name), 0o755); err != nil {
		return nil, fmt.Errorf("making the log directory of container %s: %w", c.Name, err)
	}
	config := &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: attempt},
		Image:       &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: c.Image},
		Command:     env.Expand(c.Command, vars),
		Args:        env.Expand(c.Args, vars),
		WorkingDir:  c.WorkingDir,
		Mounts:      mounts,
		Labels:      podplan.ContainerLabels(l.pod, c),
		Annotations: annotations,
		LogPath:     logPath(c.Name, attempt),
		Stdin:       c.Stdin,
		StdinOnce:   c.StdinOnce,
		Tty:         c.TTY,
		Linux:       linux,
	}
	for _, v := range vars {
		config.Envs = append(config.Envs, &runtimeapi.KeyValue{Key: v.Name, Value: []byte(v.Value)})
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		config.StopSignal = runtimeapi.Signal(runtimeapi.Signal_value[string(*c.Lifecycle.StopSignal)])
	}
	return config, nil
}

// shareTarget lets an ephemeral container see the processes of the container that it was started to look at.
func shareTarget(options *runtimeapi.NamespaceOption, l *launch, name string) error {
	for i := range l.pod.Spec.EphemeralContainers {
		e := &l.pod.Spec.EphemeralContainers[i]
		if e.Name != name || e.TargetContainerName == "" {
			continue
		}
		target := l.state.Latest(e.TargetContainerName)
		if !podplan.IsRunning(target) {
			return fmt.Errorf("unable to find target container %q: it does not run", e.TargetContainerName)
		}
		options.Pid, options.TargetId = runtimeapi.NamespaceMode_TARGET, target.Id
	}
	return nil
}

// facts are what the pod may know of itself.
func (n *Node) facts(pod *corev1.Pod, ips []netip.Addr) downward.Facts {
	return downward.Facts{Pod: pod, PodIPs: ips, HostIPs: *n.addrs.Load(), Allocatable: n.allocatable}
}

// mounts lists the volumes of a container and the files that every pod gets.
func (n *Node) mounts(ctx context.Context, l *launch, c *corev1.Container, vars []env.Var, attempt uint32) ([]*runtimeapi.Mount, error) {
	var list []*runtimeapi.Mount
	taken := map[string]bool{}
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		sub := m.SubPath
		if m.SubPathExpr != "" {
			var err error
			if sub, err = env.ExpandStrict(m.SubPathExpr, vars); err != nil {
				return nil, fmt.Errorf("volume mount %s: %w", m.Name, err)
			}
		}
		mount, err := n.volumeMount(ctx, l, c, m, sub)
		if err != nil {
			return nil, err
		}
		taken[filepath.Clean(m.MountPath)] = true
		list = append(list, mount)
	}
	if len(c.VolumeDevices) > 0 {
		return nil, fmt.Errorf("container %s asks for block devices (volumeDevices), which this node does not offer; use volumeMounts", c.Name)
	}
	files, err := n.podFiles(l)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if !taken[f.ContainerPath] {
			list = append(list, f)
		}
	}
	message, err := n.messageMount(l.pod, c, attempt)
	if err != nil {
		return nil, err
	}
	if message != nil && !taken[message.ContainerPath] {
		list = append(list, message)
	}
	return list, nil
}

// volumeMount shows a volume, or what is at sub in it, in a container.
func (n *Node) volumeMount(ctx context.Context, l *launch, c *corev1.Container, m *corev1.VolumeMount, sub string) (*runtimeapi.Mount, error) {
	if source := l.volumes.Image(m.Name); source != nil {
		user := &corev1.Container{Name: c.Name, Image: source.Reference, ImagePullPolicy: source.PullPolicy}
		image, bad := n.images.ensure(ctx, l.pod, user, l.sandbox, func(message string) { l.tell(c, message) })
		if bad != nil {
			return nil, fmt.Errorf("volume %q: %s: %s", m.Name, bad.Reason, bad.Message)
		}
		return &runtimeapi.Mount{
			ContainerPath: m.MountPath, Readonly: true, ImageSubPath: sub,
			Image: &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: source.Reference},
		}, nil
	}
	if m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled {
		return nil, fmt.Errorf("volume mount %s: recursiveReadOnly Enabled is not offered by this node; use Disabled or IfPossible", m.Name)
	}
	path, err := l.volumes.Path(m.Name, sub)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.Mount{
		HostPath: path, ContainerPath: m.MountPath,
		Readonly: m.ReadOnly || l.volumes.ReadOnly(m.Name), Propagation: propagation(m.MountPropagation),
	}, nil
}

func propagation(mode *corev1.MountPropagationMode) runtimeapi.MountPropagation {
	if mode != nil {
		switch *mode {
		case corev1.MountPropagationHostToContainer:
			return runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER
		case corev1.MountPropagationBidirectional:
			return runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
		}
	}
	return runtimeapi.MountPropagation_PROPAGATION_PRIVATE
}

// podFiles writes hosts, hostname and resolv.conf of the pod and mounts them.
func (n *Node) podFiles(l *launch) ([]*runtimeapi.Mount, error) {
	dir := filepath.Join(n.podDir(l.pod), "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of the pod's files: %w", err)
	}
	dns := l.sandbox.DnsConfig
	host, domain := names.Hostname(l.pod, n.cfg.Domain)
	hosts := names.Hosts(l.ips, host, domain, l.pod.Spec.HostAliases)
	if l.pod.Spec.HostNetwork {
		own, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("reading the host's hosts file: %w", err)
		}
		hosts = names.HostNetworkHosts(own, l.pod.Spec.HostAliases)
	}
	files := map[string][]byte{
		"hosts":       hosts,
		"hostname":    []byte(l.sandbox.Hostname + "\n"),
		"resolv.conf": names.Resolver{Servers: dns.Servers, Searches: dns.Searches, Options: dns.Options}.File(),
	}
	var list []*runtimeapi.Mount
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			return nil, fmt.Errorf("writing %s of the pod: %w", name, err)
		}
		list = append(list, &runtimeapi.Mount{HostPath: path, ContainerPath: "/etc/" + name})
	}
	return list, nil
}

// messageFile is where a container may say why it ended.
func (n *Node) messageFile(pod *corev1.Pod, container string, attempt uint32) string {
	return filepath.Join(n.podDir(pod), "messages", container, strconv.FormatUint(uint64(attempt), 10))
}

func (n *Node) messageMount(pod *corev1.Pod, c *corev1.Container, attempt uint32) (*runtimeapi.Mount, error) {
	if c.TerminationMessagePath == "" {
		return nil, nil
	}
	path := n.messageFile(pod, c.Name, attempt)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of termination messages: %w", err)
	}
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return nil, fmt.Errorf("making the termination message file of container %s: %w", c.Name, err)
	}
	// The umask must not keep a container of another user from writing it.
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, fmt.Errorf("opening the termination message file of container %s to its user: %w", c.Name, err)
	}
	return &runtimeapi.Mount{HostPath: path, ContainerPath: c.TerminationMessagePath}, nil
}
