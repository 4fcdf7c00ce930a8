package ebpf

import (
	"context"

	"svcplane/proxy"
)

// flakyPlane is a Dataplane whose failures are tried again.
type flakyPlane struct{ *insistent }

func (p flakyPlane) Sync(ctx context.Context, c proxy.Change) error {
	return p.insist(func() error { return p.Dataplane.Sync(ctx, c) })
}

func (p flakyPlane) Resync(ctx context.Context, t proxy.Table) error {
	return p.insist(func() error { return p.Dataplane.Resync(ctx, t) })
}
