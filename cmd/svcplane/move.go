package main

import (
	"context"
	"errors"

	"svcplane/address"
	"svcplane/apiserver"
)

// moveNode brings to the node's addresses what clients know it by: the certificates come first, and what has to be written
// to the API last.
func (h *house) moveNode(ctx context.Context, now address.State) error {
	pki, err := apiserver.EnsurePKI(apiserver.PKIDir(h.cfg.DataDir), h.cfg.apiNames(now.Node), h.cfg.nodeNames(now.Node))
	if err != nil {
		return err
	}
	if h.node != nil {
		serving, _, failed := kubeletTLS(pki)
		if failed == nil {
			failed = h.node.SetAddrs(now.Node, serving)
		}
		err = failed
	}
	return errors.Join(err, h.api.SetNodeIP(ctx, now.Node[0]))
}
