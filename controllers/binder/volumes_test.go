package binder

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/volume"
)

type (
	claimChange  func(*corev1.PersistentVolumeClaim)
	volumeChange func(*corev1.PersistentVolume)
)

// claim is one of 1Gi and the class "late", not bound.
func claim(name string, changes ...claimChange) *corev1.PersistentVolumeClaim {
	class := "late"
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Annotations: map[string]string{}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: request("1Gi"),
		},
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

func request(size string) corev1.VolumeResourceRequirements {
	return corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}
}

func ofClass(name string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = &name }
}

func boundTo(name string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName, c.Status.Phase = name, corev1.ClaimBound
		c.Annotations[volume.AnnBindCompleted] = "yes"
	}
}

func selectedFor(node string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Annotations[volume.AnnSelectedNode] = node }
}

func onePod(c *corev1.PersistentVolumeClaim) {
	c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
}

func going(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{} }

// disk is a free volume of the class "disks".
func disk(name, size string, changes ...volumeChange) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			StorageClassName: "disks", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadWriteOncePod},
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	for _, change := range changes {
		change(pv)
	}
	return pv
}

func onHost(node string) volumeChange {
	return func(pv *corev1.PersistentVolume) {
		pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
		}}}}
	}
}

// classes are: late (made where the pod runs), zoned (the same, in z2 only), disks (found where the pod runs) and now.
func classes() []*storagev1.StorageClass {
	late, now := storagev1.VolumeBindingWaitForFirstConsumer, storagev1.VolumeBindingImmediate
	class := func(name, provisioner string, mode *storagev1.VolumeBindingMode) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: mode}
	}
	zoned := class("zoned", "example.com/p", &late)
	zoned.AllowedTopologies = []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{{Key: "zone", Values: []string{"z2"}}}}}
	return []*storagev1.StorageClass{
		class("late", "example.com/p", &late), zoned, class("disks", volume.NotSupportedProvisioner, &late), class("now", "example.com/p", &now),
	}
}

// stored is a Storage of objects.
func stored(claims []*corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume) Storage {
	s := noStorage()
	s.Claim = func(namespace, name string) *corev1.PersistentVolumeClaim {
		for _, c := range claims {
			if c.Namespace == namespace && c.Name == name {
				return c
			}
		}
		return nil
	}
	s.Volume = func(name string) *corev1.PersistentVolume {
		for _, pv := range volumes {
			if pv.Name == name {
				return pv
			}
		}
		return nil
	}
	s.Volumes = func() []*corev1.PersistentVolume { return volumes }
	s.Class = func(name string) *storagev1.StorageClass {
		for _, c := range classes() {
			if c.Name == name {
				return c
			}
		}
		return nil
	}
	return s
}

func ephemeralVolume(name string) podChange {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}})
	}
}

func TestPlaceWithClaims(t *testing.T) {
	for _, tc := range []struct {
		name    string
		claims  []*corev1.PersistentVolumeClaim
		volumes []*corev1.PersistentVolume
		pod     *corev1.Pod   // default: one of the claim "data"
		others  []*corev1.Pod // on the node
		why     string        // empty: it fits
		steps   string        // "claim" is provisioned, "claim=volume" is bound
	}{
		{name: "bound", claims: []*corev1.PersistentVolumeClaim{claim("data", boundTo("v"))}, volumes: []*corev1.PersistentVolume{disk("v", "1Gi", onHost("n"))}},
		{name: "bound to a volume elsewhere", claims: []*corev1.PersistentVolumeClaim{claim("data", boundTo("v"))}, volumes: []*corev1.PersistentVolume{disk("v", "1Gi", onHost("m"))},
			why: "1 node(s) didn't match PersistentVolume's node affinity."},
		{name: "bound to a volume that is gone", claims: []*corev1.PersistentVolumeClaim{claim("data", boundTo("v"))},
			why: "1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."},
		{name: "lost", claims: []*corev1.PersistentVolumeClaim{claim("data", boundTo("v"), func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimLost })},
			why: `persistentvolumeclaim "data" bound to non-existent persistentvolume "v".`},
		{name: "being deleted", claims: []*corev1.PersistentVolumeClaim{claim("data", boundTo("v"), going)}, why: `persistentvolumeclaim "data" is being deleted.`},
		{name: "immediate and not bound", claims: []*corev1.PersistentVolumeClaim{claim("data", ofClass("now"))}, why: "pod has unbound immediate PersistentVolumeClaims."},
		{name: "of no class and not bound", claims: []*corev1.PersistentVolumeClaim{claim("data", ofClass(""))}, why: "pod has unbound immediate PersistentVolumeClaims."},
		{name: "half bound", claims: []*corev1.PersistentVolumeClaim{claim("data", func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "v" })},
			why: "pod has unbound immediate PersistentVolumeClaims."},
		{name: "to be provisioned", claims: []*corev1.PersistentVolumeClaim{claim("data")}, steps: "data"},
		{name: "being provisioned here", claims: []*corev1.PersistentVolumeClaim{claim("data", selectedFor("n"))}, steps: "data"},
		{name: "being provisioned elsewhere", claims: []*corev1.PersistentVolumeClaim{claim("data", selectedFor("m"))}, why: "1 node(s) didn't find available persistent volumes to bind."},
		{name: "to be provisioned in another zone", claims: []*corev1.PersistentVolumeClaim{claim("data", ofClass("zoned"))}, why: "1 node(s) didn't find available persistent volumes to bind."},
		{name: "the smallest that is large enough", claims: []*corev1.PersistentVolumeClaim{claim("data", ofClass("disks"))}, steps: "data=b",
			volumes: []*corev1.PersistentVolume{disk("a", "3Gi"), disk("b", "2Gi"), disk("c", "1Mi"), disk("d", "1Gi", onHost("m"))}},
		{name: "none that is large enough", claims: []*corev1.PersistentVolumeClaim{claim("data", ofClass("disks"))}, volumes: []*corev1.PersistentVolume{disk("c", "1Mi")},
			why: "1 node(s) didn't find available persistent volumes to bind."},
		{name: "two claims take two volumes", pod: pod("p", claiming("large"), alsoClaiming("small")), steps: "small=a large=b",
			claims:  []*corev1.PersistentVolumeClaim{claim("large", ofClass("disks"), sized("2Gi")), claim("small", ofClass("disks"))},
			volumes: []*corev1.PersistentVolume{disk("b", "3Gi"), disk("a", "2Gi")}},
		{name: "two claims, one volume", pod: pod("p", claiming("large"), alsoClaiming("small")), why: "1 node(s) didn't find available persistent volumes to bind.",
			claims: []*corev1.PersistentVolumeClaim{claim("large", ofClass("disks")), claim("small", ofClass("disks"))}, volumes: []*corev1.PersistentVolume{disk("b", "2Gi")}},
		{name: "one pod only, and it is this one", claims: []*corev1.PersistentVolumeClaim{claim("data", onePod, boundTo("v"))}, volumes: []*corev1.PersistentVolume{disk("v", "1Gi")},
			others: []*corev1.Pod{pod("a", claiming("data"), in("blue"))}},
		{name: "one pod only, and there is one", claims: []*corev1.PersistentVolumeClaim{claim("data", onePod, boundTo("v"))}, volumes: []*corev1.PersistentVolume{disk("v", "1Gi")},
			others: []*corev1.Pod{pod("a", claiming("data"))}, why: "1 " + reasonOncePod + "."},
		{name: "an ephemeral claim to be made", pod: pod("p", ephemeralVolume("v")), why: `waiting for ephemeral volume controller to create the persistentvolumeclaim "p-v".`},
		{name: "an ephemeral claim of somebody else", pod: pod("p", ephemeralVolume("v")), claims: []*corev1.PersistentVolumeClaim{claim("p-v")},
			why: "PVC default/p-v was not created for pod default/p (pod is not owner)."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cluster(on{node("n"), tc.others})
			c.Storage = stored(tc.claims, tc.volumes)
			if tc.pod == nil {
				tc.pod = pod("p", claiming("data"))
			}
			p := NewPod(tc.pod)
			got, why := Place(p, c)
			if tc.why != "" {
				tc.why = "0/1 nodes are available: " + tc.why
			}
			if why != tc.why || (got == "n") != (tc.why == "") {
				t.Fatalf("Place = %q, %q; want why %q", got, why, tc.why)
			}
			steps, _ := c.volumesOn(p, c.node("n"))
			if got := stepNames(steps); tc.why == "" && got != tc.steps {
				t.Errorf("steps %q, want %q", got, tc.steps)
			}
		})
	}
}

func alsoClaiming(name string) podChange {
	return func(p *corev1.Pod) {
		more := pod("", claiming(name)).Spec.Volumes
		p.Spec.Volumes = slices.Concat(p.Spec.Volumes, more)
	}
}

func sized(size string) claimChange {
	return func(c *corev1.PersistentVolumeClaim) { c.Spec.Resources = request(size) }
}

func stepNames(steps []step) string {
	var names []string
	for _, s := range steps {
		if s.volume == nil {
			names = append(names, s.claim.Name)
		} else {
			names = append(names, fmt.Sprintf("%s=%s", s.claim.Name, s.volume.Name))
		}
	}
	return strings.Join(names, " ")
}

// withStorage starts a Binder on one node, the classes and objects.
func withStorage(t *testing.T, objects ...runtime.Object) *bench {
	for _, c := range classes() {
		objects = append(objects, c)
	}
	return start(t, 0, append(objects, node("n"))...)
}

func (b *bench) wantClaim(name, what string, ok func(*corev1.PersistentVolumeClaim) bool) {
	b.Helper()
	b.poll(func() (any, bool) {
		c, err := b.api.CoreV1().PersistentVolumeClaims("default").Get(context.Background(), name, metav1.GetOptions{})
		return c, err == nil && ok(c)
	}, "claim "+name+" is not "+what)
}

func (b *bench) putClaim(c *corev1.PersistentVolumeClaim) {
	b.Helper()
	if _, err := b.api.CoreV1().PersistentVolumeClaims("default").Update(context.Background(), c, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
}

// The pod is bound once its claim is, and what it was promised is kept for it meanwhile.
func TestAClaimIsBoundBeforeItsPod(t *testing.T) {
	b := withStorage(t, claim("data"))
	b.create(pod("p", claiming("data"), wants("2", "0")))
	b.wantClaim("data", "selected for the node", func(c *corev1.PersistentVolumeClaim) bool { return c.Annotations[volume.AnnSelectedNode] == "n" })
	b.create(pod("q", wants("1", "0")))
	b.eventually("q", "kept out", unschedulable)
	if bound(b.get("p")) {
		t.Fatal("the pod was bound before its claim")
	}
	b.putClaim(claim("data", selectedFor("n"), boundTo("v"))) // the volume comes on another watch, and may come later
	b.create(pod("r", wants("1", "0")))
	b.eventually("r", "kept out", unschedulable)
	v := disk("v", "1Gi", onHost("n"))
	if _, err := b.api.CoreV1().PersistentVolumes().Create(t.Context(), v, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually("p", "bound", bound)
}

func TestAVolumeIsReservedBeforeItsPodIsBound(t *testing.T) {
	b := withStorage(t, claim("data", ofClass("disks")), disk("v", "1Gi"))
	b.create(pod("p", claiming("data")))
	b.poll(func() (any, bool) {
		pv, err := b.api.CoreV1().PersistentVolumes().Get(context.Background(), "v", metav1.GetOptions{})
		return pv, err == nil && pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.UID == "data" && pv.Annotations[volume.AnnBoundByController] == "yes"
	}, "the volume is not reserved")
	b.putClaim(claim("data", ofClass("disks"), boundTo("v")))
	b.eventually("p", "bound", bound)
}

// A provisioner that cannot make the volume on a node takes the selection back.
func TestTheNodeOfAClaimIsSelectedAgain(t *testing.T) {
	b := withStorage(t, claim("data"))
	b.create(pod("p", claiming("data")))
	selected := func(c *corev1.PersistentVolumeClaim) bool { return c.Annotations[volume.AnnSelectedNode] == "n" }
	b.wantClaim("data", "selected for the node", selected)
	b.putClaim(claim("data"))
	b.wantClaim("data", "selected again", selected)
}

func TestAClaimThatComesLate(t *testing.T) {
	b := withStorage(t, disk("v", "1Gi"))
	b.create(pod("p", claiming("data")))
	b.eventually("p", "unschedulable", unschedulable)
	if _, err := b.api.CoreV1().PersistentVolumeClaims("default").Create(t.Context(), claim("data", boundTo("v")), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.eventually("p", "bound", bound)
}
