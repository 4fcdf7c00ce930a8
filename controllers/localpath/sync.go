package localpath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"
)

// The reasons of Events, in the words of sig-storage's provisioners.
const (
	eventFailed       = "ProvisioningFailed"
	eventSucceeded    = "ProvisioningSucceeded"
	eventFailedDelete = "VolumeFailedDelete"
)

// provision gives a claim that asks for one its volume.
func (p *Provisioner) provision(ctx context.Context, key types.NamespacedName) error {
	claim, err := p.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if err != nil || !Wanted(claim) || p.isOthers(claim.Annotations[storagehelpers.AnnSelectedNode]) {
		return nil // the only error of a lister is that it is not there
	}
	if _, err := p.volumes.Get(volumeName(claim)); err == nil {
		return nil // made, and on its way to being bound
	}
	pv, err := p.make(ctx, claim)
	if err != nil {
		p.cfg.Recorder.Eventf(claim, corev1.EventTypeWarning, eventFailed, "failed to provision volume with StorageClass %q: %v",
			storagehelpers.GetPersistentVolumeClaimClass(claim), err)
		return reported{err}
	}
	if pv != nil {
		p.cfg.Recorder.Eventf(claim, corev1.EventTypeNormal, eventSucceeded, "Successfully provisioned volume %s", pv.Name)
	}
	return nil
}

// make makes the directory, then the volume; nil when that was there.
func (p *Provisioner) make(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, error) {
	class, err := p.classes.Get(storagehelpers.GetPersistentVolumeClaimClass(claim))
	if err != nil {
		return nil, err
	}
	if err := check(claim, class, p.cfg.NodeName); err != nil {
		return nil, err
	}
	path := filepath.Join(p.cfg.Dir, volumeName(claim))
	if err := os.Mkdir(path, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := os.Chmod(path, 0o777); err != nil { // whatever the umask: the pod may run as any user
		return nil, err
	}
	pv, err := p.cfg.Client.CoreV1().PersistentVolumes().Create(ctx, volumeFor(claim, class, p.cfg.NodeName, path), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil, nil
	}
	return pv, err
}

// reclaim brings a volume to the end that is meant for it, one step at a time: each step comes back as a change. It reads
// what the API has now: data must not be lost to a cache that has not heard yet that the policy is Retain.
func (p *Provisioner) reclaim(ctx context.Context, key types.NamespacedName) error {
	volumes := p.cfg.Client.CoreV1().PersistentVolumes()
	pv, err := volumes.Get(ctx, key.Name, metav1.GetOptions{})
	if err != nil {
		return ignoreGone(err)
	}
	if p.isOthers(nodeOf(pv)) {
		return nil
	}
	switch FateOf(pv) {
	case Keep:
		return nil
	case Remove:
		if err := p.remove(pv); err != nil {
			p.cfg.Recorder.Event(pv, corev1.EventTypeWarning, eventFailedDelete, err.Error())
			return reported{err}
		}
		if pv.DeletionTimestamp == nil {
			err = volumes.Delete(ctx, pv.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pv.UID))})
			return ignoreGone(err)
		}
	}
	if !held(pv) {
		return nil
	}
	pv.Finalizers = slices.DeleteFunc(pv.Finalizers, func(f string) bool { return f == storagehelpers.PVDeletionProtectionFinalizer })
	_, err = volumes.Update(ctx, pv, metav1.UpdateOptions{})
	return ignoreGone(err)
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// remove deletes the directory of a volume and what is in it, without following links.
func (p *Provisioner) remove(pv *corev1.PersistentVolume) error {
	wanted := filepath.Join(p.cfg.Dir, pv.Name)
	if pv.Spec.HostPath == nil || filepath.Clean(pv.Spec.HostPath.Path) != wanted {
		return fmt.Errorf("the directory of this volume is not %s, and nothing else is removed here; "+
			"remove it by hand, then set persistentVolumeReclaimPolicy to Retain and delete the volume", wanted)
	}
	root, err := os.OpenRoot(p.cfg.Dir)
	if err != nil {
		return fmt.Errorf("opening the directory of volumes: %w", err)
	}
	defer root.Close()
	if err := root.RemoveAll(pv.Name); err != nil {
		return fmt.Errorf("removing the directory of the volume: %w", err)
	}
	klog.V(2).InfoS("Removed the directory of a volume", "volume", pv.Name, "path", wanted)
	return nil
}
