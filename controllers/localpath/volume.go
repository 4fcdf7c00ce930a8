package localpath

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// ProvisionerName is what a StorageClass calls this provisioner by.
const ProvisionerName = "svcplane.io/local-path"

// Wanted says whether the claim asks us for a volume: upstream's volume controller has found none for it that is there.
func Wanted(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[storagehelpers.AnnStorageProvisioner] == ProvisionerName &&
		claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil
}

// check says why this node cannot give the claim a volume of class; nil: it can.
func check(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node string) error {
	selected := claim.Annotations[storagehelpers.AnnSelectedNode]
	delayed := class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
	for _, mode := range claim.Spec.AccessModes {
		if mode != corev1.ReadWriteOnce && mode != corev1.ReadWriteOncePod {
			return fmt.Errorf("%s volumes are on one node: access mode %s is not supported; use ReadWriteOnce, with which all pods "+
				"of the node may write, or ReadWriteOncePod", ProvisionerName, mode)
		}
	}
	switch {
	case delayed && selected != node:
		return fmt.Errorf("the volume is wanted on node %q and can be made on %q only", selected, node)
	case claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode != corev1.PersistentVolumeFilesystem:
		return fmt.Errorf("%s volumes are directories: volumeMode %s is not supported; use Filesystem", ProvisionerName, *claim.Spec.VolumeMode)
	case claim.Spec.Selector != nil:
		return fmt.Errorf("%s volumes are made for their claim: spec.selector is not supported; leave it out", ProvisionerName)
	case claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil:
		return fmt.Errorf("%s volumes begin empty: spec.dataSource is not supported; leave it out and copy the data", ProvisionerName)
	case len(class.Parameters) > 0:
		return fmt.Errorf("StorageClass %s has parameters, and %s knows none; leave them out", class.Name, ProvisionerName)
	case len(class.MountOptions) > 0:
		return fmt.Errorf("StorageClass %s has mountOptions, and a directory is not mounted with any; leave them out", class.Name)
	}
	return nil
}

// volumeName is one name for a claim for good, whatever was made of it already.
func volumeName(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

// volumeFor is the volume of a claim: the directory path on the node.
func volumeFor(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node, path string) *corev1.PersistentVolume {
	kind := corev1.HostPathDirectoryOrCreate
	policy := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        volumeName(claim),
			Annotations: map[string]string{storagehelpers.AnnDynamicallyProvisioned: ProvisionerName},
			Finalizers:  []string{storagehelpers.PVDeletionProtectionFinalizer},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    claim.Spec.VolumeMode,
			StorageClassName:              class.Name,
			PersistentVolumeReclaimPolicy: policy,
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind},
			},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			NodeAffinity: onNode(node),
		},
	}
}

func onNode(name string) *corev1.VolumeNodeAffinity {
	here := corev1.NodeSelectorRequirement{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{name}}
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{here}}},
	}}
}

// nodeOf is the node that a volume of ours is on, empty for one without any.
func nodeOf(pv *corev1.PersistentVolume) string {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, term := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range term.MatchExpressions {
			if e.Key == corev1.LabelHostname && e.Operator == corev1.NodeSelectorOpIn && len(e.Values) == 1 {
				return e.Values[0]
			}
		}
	}
	return ""
}

// Fate is what is to become of a volume.
type Fate int

// The fates of a volume.
const (
	Keep   Fate = iota // it is in use, or not ours
	LetGo              // the object may go, the directory stays
	Remove             // the directory goes, then the object
)

// FateOf decides it. The finalizer on our volumes keeps one that somebody deletes until its claim is gone: otherwise the
// directory would be forgotten with it.
func FateOf(pv *corev1.PersistentVolume) Fate {
	if pv.Annotations[storagehelpers.AnnDynamicallyProvisioned] != ProvisionerName {
		return Keep
	}
	unclaimed := pv.Status.Phase == corev1.VolumeReleased || pv.Status.Phase == corev1.VolumeFailed
	deleted := pv.DeletionTimestamp != nil
	switch {
	case pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete:
		if deleted && held(pv) {
			return LetGo
		}
	case unclaimed, deleted && pv.Status.Phase == corev1.VolumeAvailable:
		return Remove
	}
	return Keep
}

func held(pv *corev1.PersistentVolume) bool {
	return slices.Contains(pv.Finalizers, storagehelpers.PVDeletionProtectionFinalizer)
}
