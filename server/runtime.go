package server

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	internalapi "k8s.io/cri-api/pkg/apis"

	"svcplane/node"
	"svcplane/node/remote"
	"svcplane/node/runtime"
	"svcplane/node/runtime/cgroup"
	"svcplane/node/runtime/podnet"
)

// podRuntime runs the containers of pods, and joins them to the network.
type podRuntime interface {
	part
	internalapi.RuntimeService
	internalapi.ImageManagerService
	SetNodeIPs([]netip.Addr) error
}

// cniDir is where a data directory has what another container runtime needs of us.
func cniDir(dataDir string) string { return filepath.Join(dataDir, "cni") }

// RuntimeEndpoint is that of the container runtime which has the pods of a data directory; empty: the embedded one.
func RuntimeEndpoint(dataDir string) (string, error) { return remote.Endpoint(cniDir(dataDir)) }

// podGroups is where pods are limited; nil: another runtime has its own cgroups, by a driver that need not be ours.
func (n *Node) podGroups() *cgroup.Tree {
	if n.cfg.RuntimeEndpoint != "" {
		return nil
	}
	return cgroup.New(cgroup.Config{DataDir: RuntimeDir(n.cfg.DataDir), Under: n.cfg.Cgroup, Own: func() []int { return []int{os.Getpid()} }})
}

// podRuntime is the embedded runtime, or another one.
func (n *Node) podRuntime(groups *cgroup.Tree) (podRuntime, error) {
	if n.cfg.RuntimeEndpoint == "" {
		return n.embedded(groups)
	}
	return n.remote()
}

// checkRuntime refuses to leave pods behind in one runtime, and to start them again in another one.
func (c *Config) checkRuntime() error {
	if !c.Enabled(PartNode) {
		return nil
	}
	before, err := RuntimeEndpoint(c.DataDir)
	if err != nil {
		return err
	}
	const mend = "start it so once more, or end its pods with `svcplane cleanup`, which leaves objects and volumes"
	switch {
	case before != "" && before != c.RuntimeEndpoint:
		return fmt.Errorf("the pods of %s run in %s (--container-runtime-endpoint): %s", c.DataDir, before, mend)
	case before == "" && c.RuntimeEndpoint != "" && hasEntries(filepath.Join(RuntimeDir(c.DataDir), "sandboxes")):
		return fmt.Errorf("the pods of %s run in the embedded container runtime, without --container-runtime-endpoint: %s", c.DataDir, mend)
	}
	return nil
}

func hasEntries(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}

// embedded is our own container runtime.
func (n *Node) embedded(groups *cgroup.Tree) (podRuntime, error) {
	c := n.cfg
	return runtime.New(runtime.Config{
		DataDir:      RuntimeDir(c.DataDir),
		NodeName:     c.NodeName,
		NodeIPs:      c.NodeIPs,
		PodCIDR:      c.PodCIDRs[0],
		PodCIDR6:     c.podCIDR6(),
		NoMasquerade: c.ServiceCIDRs,
		Own:          c.listeners(),
		HostAccess:   n.hostAccess(),
		Hide:         []string{c.DataDir},
		Registries:   cmp.Or(c.Registries, RegistriesPath(c.DataDir)),
		Archives:     archivesDir(c.DataDir),
		Cgroups:      groups,
	})
}

// remote is another container runtime on this machine.
func (n *Node) remote() (podRuntime, error) {
	c := n.cfg
	return remote.New(remote.Config{
		Endpoint: c.RuntimeEndpoint,
		Dir:      cniDir(c.DataDir),
		Network: podnet.Config{
			Dir: RuntimeDir(c.DataDir), NodeIPs: c.NodeIPs, PodCIDR: c.PodCIDRs[0], PodCIDR6: c.podCIDR6(), NoMasquerade: c.ServiceCIDRs, Own: c.listeners(),
		},
	})
}

// cleanRemote ends the pods of another container runtime that are of this data directory.
func cleanRemote(ctx context.Context, dataDir string) error {
	return remote.Cleanup(ctx, cniDir(dataDir), func(uid string) bool { return uid != "" && node.HasPod(nodeDir(dataDir), uid) })
}
