package proxy

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// toBeDeleted is the taint of a node that the cluster autoscaler is about to remove: its load balancers are to
// send nothing new (KEP-3836).
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// follow takes the zone of the node, and whether it is to get new connections, from its Node object, and from the others
// which addresses are theirs.
func (p *Proxy) follow(ctx context.Context, nodes cache.SharedInformer) (stop func(), err error) {
	if !cache.WaitForCacheSync(ctx.Done(), nodes.HasSynced) {
		return func() {}, nil
	}
	changed := func(o any, there bool) {
		if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = gone.Obj
		}
		node, ok := o.(*corev1.Node)
		switch {
		case !ok:
		case node.Name != p.cfg.Node.Name:
			p.othersAre(nodes.GetStore().List())
		case there:
			p.nodeIs(node)
		default:
			p.ineligible.Store(true)
		}
	}
	registration, err := nodes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { changed(o, true) },
		UpdateFunc: func(_, o any) { changed(o, true) },
		DeleteFunc: func(o any) { changed(o, false) },
	})
	if err != nil {
		return nil, fmt.Errorf("watching the node: %w", err)
	}
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return func() {}, nil
	}
	return func() { _ = nodes.RemoveEventHandler(registration) }, nil
}

func (p *Proxy) nodeIs(node *corev1.Node) {
	leaving := node.DeletionTimestamp != nil
	for _, taint := range node.Spec.Taints {
		leaving = leaving || taint.Key == toBeDeleted
	}
	p.ineligible.Store(leaving)
	zone := node.Labels[corev1.LabelTopologyZone]
	p.moved(func(h *home) { h.zone, h.zoned = zone, true })
}

// reportLeftovers says in an Event on the node that another proxy has been here.
func (p *Proxy) reportLeftovers(ctx context.Context) {
	finder := p.cfg.Dataplane.Capabilities().Leftovers
	if finder == nil {
		return
	}
	found, err := finder.Leftovers(ctx)
	if err != nil || len(found) == 0 {
		return // what cannot be read now shows in the next comparison
	}
	node := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: p.cfg.Node.Name, UID: types.UID(p.cfg.Node.Name)}
	p.cfg.Recorder.Event(node, corev1.EventTypeWarning, "KubeProxyLeftovers",
		fmt.Sprintf("kube-proxy left %s, which may answer for Services before svcplane does: stop it and run kube-proxy --cleanup", strings.Join(found, ", ")))
}
