package runtime

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/node/runtime/echo"
	"svcplane/node/runtime/image"
	"svcplane/node/runtime/process"
	"svcplane/node/runtime/rootfs"
	"svcplane/node/runtime/shim"
)

// Kinds of containers.
const (
	kindEcho  = "echo"
	kindHost  = "host"
	kindImage = "image"
)

// portsAnnotation is where the kubelet, too, leaves a container's ports for the runtime.
const portsAnnotation = "io.kubernetes.container.ports"

// containerSpec is what the shim needs to run the container.
func (r *Runtime) containerSpec(pod *sandboxEntry, c *containerEntry) (shim.ContainerSpec, error) {
	spec := shim.ContainerSpec{ID: c.ID, SandboxID: pod.ID, LogPath: c.LogPath}
	var err error
	if spec.Root, err = r.rootSpec(pod, c); err != nil {
		return spec, err
	}
	if c.Kind == kindEcho {
		ports, err := echoPorts(c.config.GetAnnotations()[portsAnnotation])
		if err != nil {
			return spec, err
		}
		spec.Echo = &shim.Echo{
			Pod: pod.config.GetMetadata().GetName(), Namespace: pod.config.GetMetadata().GetNamespace(),
			Node: r.cfg.NodeName, IP: podAddress(pod), Ports: ports,
		}
		return spec, nil
	}
	command, err := r.command(pod, c, nil)
	if err != nil {
		return spec, err
	}
	spec.Process = &shim.Process{Command: command, TTY: c.config.GetTty(), Stdin: c.config.GetStdin(), StdinOnce: c.config.GetStdinOnce()}
	return spec, nil
}

func podAddress(pod *sandboxEntry) netip.Addr {
	if hostNetwork(pod.config) {
		return netip.Addr{}
	}
	return pod.IP
}

// echoPorts reads the annotation: a JSON list of corev1.ContainerPort.
func echoPorts(annotation string) ([]echo.Port, error) {
	if annotation == "" {
		return []echo.Port{{Number: 8080, Protocol: "TCP"}}, nil
	}
	var declared []struct {
		ContainerPort int    `json:"containerPort"`
		Protocol      string `json:"protocol"`
	}
	if err := json.Unmarshal([]byte(annotation), &declared); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", portsAnnotation, err)
	}
	var ports []echo.Port
	for _, p := range declared {
		port := echo.Port{Number: uint16(p.ContainerPort), Protocol: p.Protocol}
		if port.Protocol == "" {
			port.Protocol = "TCP"
		}
		if p.ContainerPort < 1 || p.ContainerPort > 65535 {
			return nil, fmt.Errorf("container port %d is not from 1 to 65535", p.ContainerPort)
		}
		if port.Protocol != "TCP" && port.Protocol != "UDP" {
			return nil, fmt.Errorf("container port %d/%s: svcplane/echo serves TCP and UDP only; remove the port or use another image", p.ContainerPort, p.Protocol)
		}
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	if len(ports) == 0 {
		ports = []echo.Port{{Number: 8080, Protocol: "TCP"}}
	}
	return ports, nil
}

// rootSpec is the file system of a container.
func (r *Runtime) rootSpec(pod *sandboxEntry, c *containerEntry) (shim.RootSpec, error) {
	dir := r.store.containerDir(c.ID)
	security := c.config.GetLinux().GetSecurityContext()
	root := shim.RootSpec{MountNS: r.mountNS, Cgroup: r.groupOf(pod, c), HostPID: security.GetNamespaceOptions().GetPid() == runtimeapi.NamespaceMode_NODE}
	root.Spec = rootfs.Spec{Stage: filepath.Join(dir, "stage"), ReadOnly: security.GetReadonlyRootfs(), WorkDir: c.config.GetWorkingDir()}
	var err error
	if root.Users, err = usersOf(pod.config); err != nil {
		return root, err
	}
	if err := r.rootKind(&root, pod, c); err != nil {
		return root, err
	}
	if own := root.Image != nil || root.View != nil; own && !security.GetPrivileged() {
		// There is no cgroup of devices: a node that the container makes with mknod must not open.
		root.NoDevices = true
		root.Protect = rootfs.Protection{Masked: security.GetMaskedPaths(), ReadOnly: security.GetReadonlyPaths()}
	}
	root.Privileged = security.GetPrivileged()
	for _, m := range c.config.GetMounts() {
		if m.GetImage().GetImage() != "" {
			mount, err := r.imageMount(m, dir)
			if err != nil {
				return root, fmt.Errorf("mount %s: %w", m.GetContainerPath(), err)
			}
			root.Mounts = append(root.Mounts, mount)
			continue
		}
		propagation, err := propagation(m.GetPropagation())
		if err != nil {
			return root, fmt.Errorf("mount %s: %w", m.GetContainerPath(), err)
		}
		root.Mounts = append(root.Mounts, rootfs.Mount{
			Source: m.GetHostPath(), Target: m.GetContainerPath(), ReadOnly: m.GetReadonly(), Propagation: propagation,
		})
	}
	// In a volume over /etc, too, where it leaves a place for them: they are all that names resolve by.
	root.Mounts = append(r.podFileMounts(pod.ID, root.Mounts, root.Image != nil || root.View != nil), root.Mounts...)
	for i, m := range root.Mounts {
		root.Mounts[i].Optional = slices.Contains(podFiles[:], filepath.Clean(m.Target))
	}
	return root, nil
}

// podFiles are the files that every pod gets, if its volumes leave a place for them.
var podFiles = [...]string{"/etc/" + fileResolv, "/etc/" + fileHosts, "/etc/" + fileHostname}

// rootKind sets whose files the container sees: an image's, the host's, or a view of the host's programs.
func (r *Runtime) rootKind(root *shim.RootSpec, pod *sandboxEntry, c *containerEntry) error {
	switch c.Kind {
	case kindEcho:
		root.ReadOnly = false // the server writes nothing
		// The host's root is no place for whom its files call nobody.
		if r.hostAccess(pod) != nil || root.Users != nil {
			root.View = &rootfs.View{Hide: append([]string{r.cfg.DataDir}, r.cfg.Hide...)}
		}
	case kindHost:
		if root.ReadOnly {
			return fmt.Errorf("readOnlyRootFilesystem can't be had with %s, whose root is the host's; use an imported image", image.Host)
		}
		if root.Users != nil {
			return fmt.Errorf("hostUsers: false can't be had with %s, whose root is the host's; use another image", image.Host)
		}
	case kindImage:
		img, err := r.images.Get(c.ImageID)
		if err != nil {
			return err
		}
		root.Image = &rootfs.Image{Layers: img.Layers, Dir: r.store.containerDir(c.ID)}
		if r.isCopied(c.ID) {
			root.Image.Layers = nil
		}
		if root.WorkDir == "" {
			root.WorkDir = img.Config.WorkingDir
		}
	}
	return nil
}

// hostAccess says why a pod may not have the host's root, or nil.
func (r *Runtime) hostAccess(pod *sandboxEntry) error {
	if r.cfg.HostAccess == nil {
		return nil
	}
	return r.cfg.HostAccess(pod.config.GetMetadata().GetNamespace())
}

// mayRun refuses svcplane/host to pods that may not have the host's root.
func (r *Runtime) mayRun(pod *sandboxEntry, kind string) error {
	if kind != kindHost {
		return nil
	}
	if err := r.hostAccess(pod); err != nil {
		return status.Errorf(codes.PermissionDenied, "image %s gives the host's root, which this pod may not have: %v", image.Host, err)
	}
	return nil
}

// mayEnter refuses an exec, or a client, where it would come to the host's root: in svcplane/host, and beside one whose
// processes the container sees (through /proc/<pid>/root), in pods that may not have it any more.
func (r *Runtime) mayEnter(pod *sandboxEntry, kind string) error {
	if namespaceMode(pod.config).GetPid() == runtimeapi.NamespaceMode_POD {
		for _, c := range r.members(pod.ID) {
			if c.Kind == kindHost {
				kind = kindHost
			}
		}
	}
	return r.mayRun(pod, kind)
}

// imageMount shows the files of an image, or what is at a path in it.
func (r *Runtime) imageMount(m *runtimeapi.Mount, dir string) (rootfs.Mount, error) {
	found, err := r.findImage(m.GetImage())
	if err != nil {
		return rootfs.Mount{}, err
	}
	if found.kind != kindImage {
		return rootfs.Mount{}, fmt.Errorf("the builtin image %s has no files", found.id)
	}
	img, err := r.images.Get(found.id)
	if err != nil {
		return rootfs.Mount{}, err
	}
	layers := img.Layers
	if r.copies(layers) {
		layers = []string{volumeCopy(dir, img)}
	}
	return rootfs.Mount{
		Source: m.GetImage().GetUserSpecifiedImage(), Layers: layers, SubPath: m.GetImageSubPath(),
		Target: m.GetContainerPath(), ReadOnly: true,
	}, nil
}

func propagation(p runtimeapi.MountPropagation) (string, error) {
	switch p {
	case runtimeapi.MountPropagation_PROPAGATION_PRIVATE:
		return "", nil
	case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		return "HostToContainer", nil
	}
	return "", fmt.Errorf("mount propagation %s is not supported; use None or HostToContainer", p)
}

// command is the container's own command or, with args, one to execute in it.
func (r *Runtime) command(pod *sandboxEntry, c *containerEntry, args []string) (process.Command, error) {
	command := process.Command{Args: args, Dir: c.config.GetWorkingDir()}
	env := []string{"HOSTNAME=" + pod.config.GetHostname()}
	if c.config.GetTty() {
		env = append(env, "TERM=xterm")
	}
	own := append(slices.Clone(c.config.GetCommand()), c.config.GetArgs()...)
	if c.Kind == kindImage {
		img, err := r.images.Get(c.ImageID)
		if err != nil {
			return command, err
		}
		env = append(env, img.Config.Env...)
		own = imageArgs(img.Config.Entrypoint, img.Config.Cmd, c.config)
		command.User.Name = img.Config.User
		if command.Dir == "" {
			command.Dir = img.Config.WorkingDir
		}
	}
	for _, e := range c.config.GetEnvs() {
		env = append(env, e.GetKey()+"="+string(e.GetValue()))
	}
	command.Env = lastOnly(env)
	if args == nil {
		command.Args = own
	}
	if resources := c.config.GetLinux().GetResources(); r.groupOf(pod, c) != "" && resources != nil {
		score := int(resources.GetOomScoreAdj())
		command.OOMScore = &score
	}
	if len(command.Args) == 0 {
		return command, fmt.Errorf("there is nothing to run: set the container's command")
	}
	if err := secure(&command, c.config.GetLinux().GetSecurityContext()); err != nil {
		return command, err
	}
	var err error
	command.Filter, err = r.filter(c)
	return command, err
}

// imageArgs combines an image's and a pod's command as Kubernetes does: a command replaces both the
// image's entrypoint and its cmd, args only the cmd.
func imageArgs(entrypoint, cmd []string, config *runtimeapi.ContainerConfig) []string {
	if len(config.GetCommand()) > 0 {
		return append(slices.Clone(config.GetCommand()), config.GetArgs()...)
	}
	if len(config.GetArgs()) > 0 {
		return append(slices.Clone(entrypoint), config.GetArgs()...)
	}
	return append(slices.Clone(entrypoint), cmd...)
}

// lastOnly keeps the last value of each variable, in the order of first appearance.
func lastOnly(env []string) []string {
	var out []string
	position := map[string]int{}
	for _, e := range env {
		name := e
		for i := range e {
			if e[i] == '=' {
				name = e[:i]
				break
			}
		}
		if i, ok := position[name]; ok {
			out[i] = e
			continue
		}
		position[name] = len(out)
		out = append(out, e)
	}
	return out
}
