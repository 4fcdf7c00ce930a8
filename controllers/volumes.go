package controllers

import (
	"context"
	"time"

	"k8s.io/kubernetes/pkg/controller/volume/ephemeral"
	"k8s.io/kubernetes/pkg/controller/volume/persistentvolume"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/hostpath"
)

// volumeResync is upstream's default: how often claims and volumes that do not fit each other are looked at again.
const volumeResync = 15 * time.Second

// buildVolumes makes what binds claims to volumes and releases these again. It asks the provisioner that a StorageClass
// names for a volume; ours is localpath.
func buildVolumes(ctx context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	recycler := volume.NewPersistentVolumeRecyclerPodTemplate()
	recycler.Spec.Containers[0].Image = "svcplane/host" // upstream's would have to be pulled; all that it runs is find and rm
	c, err := persistentvolume.NewController(ctx, persistentvolume.ControllerParameters{
		KubeClient: p.Client, SyncPeriod: volumeResync,
		VolumePlugins: hostpath.ProbeVolumePlugins(volume.VolumeConfig{
			RecyclerPodTemplate: recycler, RecyclerMinimumTimeout: 60, RecyclerTimeoutIncrement: 30, // upstream's defaults
		}),
		VolumeInformer: core.PersistentVolumes(), ClaimInformer: core.PersistentVolumeClaims(),
		ClassInformer: p.Factory.Storage().V1().StorageClasses(), PodInformer: core.Pods(), NodeInformer: core.Nodes(),
		EnableDynamicProvisioning: true,
	})
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}

// buildEphemeral makes what makes the claims of generic ephemeral volumes (KEP-1698).
func buildEphemeral(ctx context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	c, err := ephemeral.NewController(ctx, p.Client, core.Pods(), core.PersistentVolumeClaims())
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}
