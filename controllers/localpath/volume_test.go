package localpath

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"
)

type (
	claimChange  func(*corev1.PersistentVolumeClaim)
	classChange  func(*storagev1.StorageClass)
	volumeChange func(*corev1.PersistentVolume)
)

// claim is one that upstream's controller has asked us for a volume for, on node n.
func claim(changes ...claimChange) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "data", UID: "u", Annotations: map[string]string{
			storagehelpers.AnnStorageProvisioner: ProvisionerName, storagehelpers.AnnSelectedNode: "n",
		}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To("local-path"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem),
			Resources:  corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

func modes(list ...corev1.PersistentVolumeAccessMode) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.AccessModes = list }
}

func selected(node string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Annotations[storagehelpers.AnnSelectedNode] = node }
}

func class(changes ...classChange) *storagev1.StorageClass {
	c := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: "local-path"}, Provisioner: ProvisionerName,
		VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer), ReclaimPolicy: ptr.To(corev1.PersistentVolumeReclaimDelete),
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

func immediate(c *storagev1.StorageClass) {
	c.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name  string
		claim *corev1.PersistentVolumeClaim
		class *storagev1.StorageClass
		why   string // part of it; empty: it is fine
	}{
		{"as usual", claim(), class(), ""},
		{"one pod", claim(modes(corev1.ReadWriteOncePod)), class(), ""},
		{"many writers", claim(modes(corev1.ReadWriteOnce, corev1.ReadWriteMany)), class(), "access mode ReadWriteMany is not supported; use ReadWriteOnce"},
		{"many readers", claim(modes(corev1.ReadOnlyMany)), class(), "access mode ReadOnlyMany is not supported"},
		{"another node", claim(selected("m")), class(), `wanted on node "m" and can be made on "n" only`},
		{"no node yet", claim(selected("")), class(), `wanted on node ""`},
		{"no node, at once", claim(selected("")), class(immediate), ""},
		{"block", claim(func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock) }), class(), "volumeMode Block is not supported; use Filesystem"},
		{"selector", claim(func(c *corev1.PersistentVolumeClaim) { c.Spec.Selector = &metav1.LabelSelector{} }), class(), "spec.selector is not supported"},
		{"clone", claim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "other"}
		}), class(), "spec.dataSource is not supported"},
		{"parameters", claim(), class(func(c *storagev1.StorageClass) { c.Parameters = map[string]string{"nodePath": "/x"} }), "StorageClass local-path has parameters"},
		{"mount options", claim(), class(func(c *storagev1.StorageClass) { c.MountOptions = []string{"ro"} }), "StorageClass local-path has mountOptions"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := check(tc.claim, tc.class, "n")
			if (err == nil) != (tc.why == "") || err != nil && !strings.Contains(err.Error(), tc.why) {
				t.Errorf("check = %v, want %q", err, tc.why)
			}
		})
	}
}

func TestWanted(t *testing.T) {
	for name, tc := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		want  bool
	}{
		"asked for":             {claim(), true},
		"of somebody else":      {claim(func(c *corev1.PersistentVolumeClaim) { c.Annotations[storagehelpers.AnnStorageProvisioner] = "x" }), false},
		"has one":               {claim(func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "v" }), false},
		"is going away":         {claim(func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{} }), false},
		"not asked for by this": {&corev1.PersistentVolumeClaim{}, false},
	} {
		if got := Wanted(tc.claim); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// volume is ours, claimed, of policy Delete.
func volume(changes ...volumeChange) *corev1.PersistentVolume {
	pv := volumeFor(claim(), class(), "n", "/dir/pvc-u")
	pv.Status.Phase = corev1.VolumeBound
	for _, change := range changes {
		change(pv)
	}
	return pv
}

func phase(p corev1.PersistentVolumePhase) volumeChange {
	return func(pv *corev1.PersistentVolume) { pv.Status.Phase = p }
}

func retained(pv *corev1.PersistentVolume) {
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
}

func deleted(pv *corev1.PersistentVolume) { pv.DeletionTimestamp = &metav1.Time{} }

func TestFate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		volume *corev1.PersistentVolume
		want   Fate
	}{
		{"in use", volume(), Keep},
		{"in use and deleted", volume(deleted), Keep},
		{"not bound yet", volume(phase(corev1.VolumeAvailable)), Keep},
		{"new", volume(phase(corev1.VolumePending)), Keep},
		{"deleted before anybody used it", volume(phase(corev1.VolumeAvailable), deleted), Remove},
		{"released", volume(phase(corev1.VolumeReleased)), Remove},
		{"released and deleted", volume(phase(corev1.VolumeReleased), deleted), Remove},
		{"kept, in use", volume(retained), Keep},
		{"kept, released", volume(retained, phase(corev1.VolumeReleased)), Keep},
		{"kept, released and deleted", volume(retained, phase(corev1.VolumeReleased), deleted), LetGo},
		{"kept, deleted, no finalizer of ours", volume(retained, deleted, func(pv *corev1.PersistentVolume) { pv.Finalizers = nil }), Keep},
		{"made by hand", volume(phase(corev1.VolumeReleased), func(pv *corev1.PersistentVolume) { pv.Annotations = nil }), Keep},
	} {
		if got := FateOf(tc.volume); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
