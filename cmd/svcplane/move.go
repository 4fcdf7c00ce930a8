package main

import (
	"context"
	"errors"

	"svcplane/address"
	"svcplane/apiserver"
)

// moveNode brings to the node's addresses what clients know it by: the certificates come first.
func (h *house) moveNode(ctx context.Context, now address.State) error {
	pki, err := apiserver.EnsurePKI(apiserver.PKIDir(h.cfg.DataDir), h.cfg.apiNames(now.Node), h.cfg.nodeNames(now.Node))
	if err != nil {
		return err
	}
	err = h.api.SetNodeIP(ctx, now.Node[0])
	if h.node == nil {
		return err
	}
	serving, _, failed := kubeletTLS(pki)
	if failed == nil {
		failed = h.node.SetAddrs(now.Node, serving)
	}
	return errors.Join(err, failed)
}
