package binder

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/component-helpers/storage/volume"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper"
)

// Storage looks up what the volumes of pods depend on. Each function gives nil for what is not there.
type Storage struct {
	Claim   func(namespace, name string) *corev1.PersistentVolumeClaim
	Volume  func(name string) *corev1.PersistentVolume
	Volumes func() []*corev1.PersistentVolume
	Class   func(name string) *storagev1.StorageClass
}

func noStorage() Storage {
	return Storage{
		Claim:   func(string, string) *corev1.PersistentVolumeClaim { return nil },
		Volume:  func(string) *corev1.PersistentVolume { return nil },
		Volumes: func() []*corev1.PersistentVolume { return nil },
		Class:   func(string) *storagev1.StorageClass { return nil },
	}
}

// storage looks things up in the informers of factory; the only error of a lister is that it is not there.
func storage(factory informers.SharedInformerFactory) Storage {
	core := factory.Core().V1()
	claims, volumes := core.PersistentVolumeClaims().Lister(), core.PersistentVolumes().Lister()
	classes := factory.Storage().V1().StorageClasses().Lister()
	return Storage{
		Claim: func(namespace, name string) *corev1.PersistentVolumeClaim {
			claim, _ := claims.PersistentVolumeClaims(namespace).Get(name)
			return claim
		},
		Volume: func(name string) *corev1.PersistentVolume {
			pv, _ := volumes.Get(name)
			return pv
		},
		Volumes: func() []*corev1.PersistentVolume {
			all, _ := volumes.List(labels.Everything())
			return all
		},
		Class: func(name string) *storagev1.StorageClass {
			class, _ := classes.Get(name)
			return class
		},
	}
}

// claimTrouble names the claim that keeps pod from every node; empty: none does.
func (c *Cluster) claimTrouble(pod *Pod) string {
	for _, ref := range pod.claims {
		claim := c.Storage.Claim(pod.Namespace, ref.name)
		switch {
		case claim == nil && ref.ephemeral:
			return fmt.Sprintf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", ref.name)
		case claim == nil:
			return fmt.Sprintf("persistentvolumeclaim %q not found", ref.name)
		case claim.Status.Phase == corev1.ClaimLost:
			return fmt.Sprintf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", ref.name, claim.Spec.VolumeName)
		case claim.DeletionTimestamp != nil:
			return fmt.Sprintf("persistentvolumeclaim %q is being deleted", ref.name)
		case ref.ephemeral && ephemeral.VolumeIsForPod(pod.Pod, claim) != nil:
			return ephemeral.VolumeIsForPod(pod.Pod, claim).Error()
		case !isBound(claim) && !c.waitsForPod(claim):
			return "pod has unbound immediate PersistentVolumeClaims"
		}
	}
	return ""
}

// isBound says whether both sides of the binding are written.
func isBound(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeName != "" && metav1.HasAnnotation(claim.ObjectMeta, volume.AnnBindCompleted)
}

// waitsForPod says whether the claim is to be bound where its first pod runs (KEP-490).
func (c *Cluster) waitsForPod(claim *corev1.PersistentVolumeClaim) bool {
	class := c.Storage.Class(volume.GetPersistentVolumeClaimClass(claim))
	return claim.Spec.VolumeName == "" && class != nil && class.VolumeBindingMode != nil &&
		*class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// volumesUnseen says whether a claim of the pod is bound to a volume that has not been seen: each comes on a watch of its own.
func (c *Cluster) volumesUnseen(pod *Pod) bool {
	return slices.ContainsFunc(pod.claims, func(ref claimRef) bool {
		claim := c.Storage.Claim(pod.Namespace, ref.name)
		return claim != nil && isBound(claim) && claim.Status.Phase != corev1.ClaimLost && c.Storage.Volume(claim.Spec.VolumeName) == nil
	})
}

// fitOncePod holds that a claim of ReadWriteOncePod has one pod (KEP-2485).
func fitOncePod(pod *Pod, _ *Node, c *Cluster) []string {
	for _, ref := range pod.claims {
		claim := c.Storage.Claim(pod.Namespace, ref.name)
		if claim == nil || !slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) {
			continue
		}
		taken := false
		c.eachPod(func(other *Pod, _ *Node) {
			taken = taken || other.UID != pod.UID && other.Namespace == pod.Namespace &&
				slices.ContainsFunc(other.claims, func(theirs claimRef) bool { return theirs.name == ref.name })
		})
		if taken {
			return []string{reasonOncePod}
		}
	}
	return nil
}

func fitVolumes(pod *Pod, node *Node, c *Cluster) []string {
	if len(pod.claims) == 0 {
		return nil
	}
	_, reasons := c.volumesOn(pod, node)
	return reasons
}

// step is what has to be written for a claim to get its volume on a node.
type step struct {
	claim  *corev1.PersistentVolumeClaim
	volume *corev1.PersistentVolume // to be bound to the claim; nil: one is to be provisioned
}

// volumesOn tells what has to be written so that the pod has all its volumes on node, or why it cannot have them there.
func (c *Cluster) volumesOn(pod *Pod, node *Node) (steps []step, reasons []string) {
	var open []*corev1.PersistentVolumeClaim
	for _, ref := range pod.claims {
		claim := c.Storage.Claim(pod.Namespace, ref.name)
		if claim == nil {
			continue // claimTrouble says so
		}
		if !isBound(claim) {
			open = append(open, claim)
			continue
		}
		pv := c.Storage.Volume(claim.Spec.VolumeName)
		if pv == nil {
			return nil, []string{reasonVolumeGone}
		}
		if volume.CheckNodeAffinity(pv, node.Labels) != nil {
			return nil, []string{reasonVolumeElsewhere}
		}
	}
	slices.SortFunc(open, func(a, b *corev1.PersistentVolumeClaim) int { // as kube-scheduler: the smallest claim has the first choice
		size := a.Spec.Resources.Requests[corev1.ResourceStorage]
		return size.Cmp(b.Spec.Resources.Requests[corev1.ResourceStorage])
	})
	taken := map[string]*corev1.PersistentVolume{}
	for _, claim := range open {
		s, ok := c.stepFor(claim, node, taken)
		if !ok {
			return nil, []string{reasonNoVolume}
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// stepFor finds a volume on node for the claim, or somebody who makes one there.
func (c *Cluster) stepFor(claim *corev1.PersistentVolumeClaim, node *Node, taken map[string]*corev1.PersistentVolume) (step, bool) {
	selected := claim.Annotations[volume.AnnSelectedNode]
	if selected == "" {
		pv, err := volume.FindMatchingVolume(claim, c.Storage.Volumes(), node.Node, taken, true, true)
		if err == nil && pv != nil {
			taken[pv.Name] = pv
			return step{claim, pv}, true
		}
	}
	class := c.Storage.Class(volume.GetPersistentVolumeClaimClass(claim))
	makes := class != nil && class.Provisioner != volume.NotSupportedProvisioner && (selected == "" || selected == node.Name) &&
		helper.MatchTopologySelectorTerms(class.AllowedTopologies, labels.Set(node.Labels))
	return step{claim: claim}, makes
}

// take writes the step; what is written already is not written again.
func (s step) take(ctx context.Context, client kubernetes.Interface, node string) error {
	if s.volume != nil {
		pv, news, err := volume.GetBindVolumeToClaim(s.volume, s.claim)
		if err != nil || !news {
			return err
		}
		_, err = client.CoreV1().PersistentVolumes().Update(ctx, pv, metav1.UpdateOptions{})
		return err
	}
	if s.claim.Annotations[volume.AnnSelectedNode] == node {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": s.claim.UID, "resourceVersion": s.claim.ResourceVersion, "annotations": map[string]string{volume.AnnSelectedNode: node},
	}})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().PersistentVolumeClaims(s.claim.Namespace).Patch(ctx, s.claim.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// claimFacts are what placements depend on of a claim.
type claimFacts struct {
	bound, deleted          bool
	volume, class, selected string
	phase                   corev1.PersistentVolumeClaimPhase
}

func claimState(claim *corev1.PersistentVolumeClaim) claimFacts {
	return claimFacts{
		bound: isBound(claim), deleted: claim.DeletionTimestamp != nil,
		volume: claim.Spec.VolumeName, class: volume.GetPersistentVolumeClaimClass(claim),
		selected: claim.Annotations[volume.AnnSelectedNode], phase: claim.Status.Phase,
	}
}
