package cni

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"k8s.io/klog/v2"

	"svcplane/node/runtime/podnet"
	"svcplane/node/runtime/record"
	"svcplane/node/runtime/sandbox"
)

// attachment is a pod's place in the network, as it is recorded.
type attachment struct {
	ContainerID string        `json:"containerID"` // of the sandbox
	Name        string        `json:"name"`        // namespace/name of the pod, or the container
	Netns       string        `json:"netns"`       // its path where the plugin runs
	IP          netip.Addr    `json:"ip"`
	IP6         netip.Addr    `json:"ip6"`
	Ports       []podnet.Port `json:"ports,omitempty"`
}

func podsDir(dir string) string { return filepath.Join(dir, "pods") }

func recordPath(dir, id string) string { return filepath.Join(podsDir(dir), id+".json") }

var hexID = regexp.MustCompile(`^[0-9a-f]{12,}$`)

// key names the pod's link: by the sandbox's ID where it is of the kind that containerd and CRI-O make.
func (a *attachment) key() string {
	if hexID.MatchString(a.ContainerID) {
		return a.ContainerID
	}
	sum := sha256.Sum256([]byte(a.ContainerID))
	return hex.EncodeToString(sum[:])
}

func (a *attachment) pod() podnet.Pod {
	return podnet.Pod{ID: a.key(), Name: a.Name, IP: a.IP, IP6: a.IP6, Ports: a.Ports}
}

func (a *attachment) addrs() []netip.Addr {
	pod := a.pod()
	return pod.Addrs()
}

func (a *attachment) hasLink() bool { return sandbox.HasLink(a.key()) }

// publish names the namespace for ip-netns(8) and the eBPF data plane. A link does not keep it alive, as a mount would.
func (a *attachment) publish() error {
	name := filepath.Join(sandbox.NetnsDir, sandbox.NetnsName(a.key()))
	if to, err := os.Readlink(name); err == nil && to == a.Netns {
		return nil
	}
	if err := os.MkdirAll(sandbox.NetnsDir, 0o755); err != nil {
		return fmt.Errorf("publish network namespace %s: %w", name, err)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("publish network namespace %s: %w", name, err)
	}
	if err := os.Symlink(a.Netns, name); err != nil {
		return fmt.Errorf("publish network namespace %s: %w", name, err)
	}
	return nil
}

// load reads all records; those that can't be read are removed.
func load(dir string) ([]*attachment, error) {
	entries, err := os.ReadDir(podsDir(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the records of pods: %w", err)
	}
	var all []*attachment
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		a := &attachment{}
		if err := record.Read(recordPath(dir, id), a); err != nil || a.ContainerID != id || !a.IP.IsValid() {
			klog.InfoS("Removing the record of a pod's network that can't be read; the pod loses its link", "file", recordPath(dir, id), "err", err)
			if err := os.Remove(recordPath(dir, id)); err != nil {
				return nil, fmt.Errorf("remove a broken record: %w", err)
			}
			continue
		}
		all = append(all, a)
	}
	return all, nil
}

// adopt takes over the pods of an earlier run; those that have gone meanwhile free their addresses.
func (s *Server) adopt() error {
	all, err := load(s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, a := range all {
		if !a.hasLink() {
			klog.InfoS("The network namespace of a pod has gone; its address is free", "pod", a.Name, "addresses", a.addrs())
			if err := errors.Join(s.cfg.Network.Detach(a.key()), os.Remove(recordPath(s.cfg.Dir, a.ContainerID))); err != nil {
				return err
			}
			continue
		}
		if err := s.cfg.Network.Adopt(a.pod()); err != nil {
			return fmt.Errorf("adopt pod %s: %w", a.Name, err)
		}
		if err := a.publish(); err != nil {
			return err
		}
		s.pods[a.ContainerID] = a
	}
	return nil
}
