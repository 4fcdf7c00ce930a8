package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	podplan "svcplane/node/pod"
	"svcplane/node/volume"
)

// sweep removes the files of pods that neither the API nor the runtime knows any more: they were deleted
// while the node was down, and the machine was restarted.
func (n *Node) sweep(ctx context.Context) error {
	logs := filepath.Join(n.cfg.Dir, "logs")
	// Before asking who is known: a pod that comes now has its worker before it has files.
	volumes, err := os.ReadDir(n.podsDir())
	if err != nil {
		return fmt.Errorf("listing the files of pods: %w", err)
	}
	logged, err := os.ReadDir(logs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing the logs of pods: %w", err)
	}
	known, err := n.known(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range volumes {
		if !known[types.UID(e.Name())] {
			errs = append(errs, volume.Remove(filepath.Join(n.podsDir(), e.Name())))
		}
	}
	for _, e := range logged {
		// namespace_name_uid: neither names nor uids have an underscore
		if uid := e.Name()[strings.LastIndex(e.Name(), "_")+1:]; !known[types.UID(uid)] {
			errs = append(errs, os.RemoveAll(filepath.Join(logs, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// known lists the pods of which the API or the runtime has something.
func (n *Node) known(ctx context.Context) (map[types.UID]bool, error) {
	known := map[types.UID]bool{}
	containers, err := n.listContainers(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		known[podplan.UID(c.Labels)] = true
	}
	sandboxes, err := n.cfg.Runtime.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{})
	if err != nil {
		return nil, fmt.Errorf("listing sandboxes: %w", err)
	}
	for _, s := range sandboxes {
		known[podplan.UID(s.Labels)] = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for uid := range n.workers {
		known[uid] = true
	}
	return known, nil
}

// Cleanup unmounts and removes the volumes of all pods below dir (Config.Dir) and keeps the logs; the node may get
// another name. Nothing of the pods may run any more. A directory that does not exist is no error.
func Cleanup(dir string) error {
	path, err := filepath.Abs(filepath.Join(dir, "pods"))
	if err != nil {
		return fmt.Errorf("cleaning up the node's volumes: %w", err)
	}
	if err := os.Remove(nameFile(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("giving the node's name up: %w", err)
	}
	return volume.Remove(path)
}
