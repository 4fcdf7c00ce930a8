package fields

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

// foreignSources are volumes of pods and claims that need a driver.
const foreignSources = "gcePersistentDisk awsElasticBlockStore nfs iscsi glusterfs rbd flexVolume cinder cephfs flocker fc azureFile " +
	"vsphereVolume quobyte azureDisk photonPersistentDisk portworxVolume scaleIO storageos csi"

func volumes() []Struct {
	return []Struct{
		{Of: corev1.Volume{}, Honoured: []Honoured{{"node", "name"}}},
		{
			Of: corev1.VolumeSource{},
			Honoured: []Honoured{{"node", "hostPath emptyDir secret persistentVolumeClaim downwardAPI configMap projected ephemeral " +
				"image"}},
			Rows: []Row{{
				Fields: foreignSources + " gitRepo", Fate: Event,
				Text: "the pod is not started (FailedMount): the node mounts no such volumes; use persistentVolumeClaim, hostPath or emptyDir",
			}},
		},
		{Of: corev1.HostPathVolumeSource{}, Honoured: []Honoured{{"node", "path type"}}},
		{Of: corev1.EmptyDirVolumeSource{}, Honoured: []Honoured{{"node", "sizeLimit"}}, Rows: []Row{
			{
				Fields: "medium", Fate: Event, Mean: "HugePages", If: when(func(s *corev1.EmptyDirVolumeSource) bool {
					return strings.HasPrefix(string(s.Medium), string(corev1.StorageMediumHugePages))
				}),
				Text: "the pod is not started (FailedMount); use \"\" or Memory",
			},
		}},
		{Of: corev1.PersistentVolumeClaimVolumeSource{}, Honoured: []Honoured{{"node", "claimName readOnly"}}},
		{Of: corev1.EphemeralVolumeSource{}, Honoured: []Honoured{{"ephemeral-volume-controller", "volumeClaimTemplate"}}},
		{Of: corev1.PersistentVolumeClaimTemplate{}, Honoured: []Honoured{{"ephemeral-volume-controller", "spec"}}},
		{Of: corev1.ImageVolumeSource{}, Honoured: []Honoured{{"node", "reference pullPolicy"}}},
		{
			Of:       corev1.VolumeMount{},
			Honoured: []Honoured{{"node", "name readOnly mountPath subPath subPathExpr"}},
			Rows: []Row{
				{
					Fields: "recursiveReadOnly", Fate: Event, Mean: "Enabled",
					If: when(func(m *corev1.VolumeMount) bool {
						return is(m.RecursiveReadOnly, corev1.RecursiveReadOnlyEnabled)
					}),
					Text: "the container is not started (CreateContainerConfigError): mounts below the volume stay writable; use Disabled or IfPossible",
				},
				{
					Fields: "mountPropagation", Fate: Event, Mean: "Bidirectional",
					If: when(func(m *corev1.VolumeMount) bool {
						return is(m.MountPropagation, corev1.MountPropagationBidirectional)
					}),
					Text: "the container is not started (CreateContainerError); use None or HostToContainer",
				},
			},
		},
	}
}

// projections are the volumes that are made of API objects.
func projections() []Struct {
	return []Struct{
		{Of: corev1.SecretVolumeSource{}, Honoured: []Honoured{{"node", "secretName items defaultMode optional"}}},
		{Of: corev1.ConfigMapVolumeSource{}, Honoured: []Honoured{{"node", "items defaultMode optional"}}},
		{Of: corev1.KeyToPath{}, Honoured: []Honoured{{"node", "key path mode"}}},
		{Of: corev1.DownwardAPIVolumeSource{}, Honoured: []Honoured{{"node", "items defaultMode"}}},
		{Of: corev1.DownwardAPIVolumeFile{}, Honoured: []Honoured{{"node", "path fieldRef resourceFieldRef mode"}}},
		{Of: corev1.ProjectedVolumeSource{}, Honoured: []Honoured{{"node", "sources defaultMode"}}},
		{
			Of:       corev1.VolumeProjection{},
			Honoured: []Honoured{{"node", "secret downwardAPI configMap serviceAccountToken"}},
			Rows: []Row{{
				Fields: "clusterTrustBundle podCertificate", Fate: Event,
				Text: "the pod is not started (FailedMount); the API server has the feature gates for them off",
			}},
		},
		{Of: corev1.SecretProjection{}, Honoured: []Honoured{{"node", "items optional"}}},
		{Of: corev1.ConfigMapProjection{}, Honoured: []Honoured{{"node", "items optional"}}},
		{Of: corev1.DownwardAPIProjection{}, Honoured: []Honoured{{"node", "items"}}},
		{Of: corev1.ServiceAccountTokenProjection{}, Honoured: []Honoured{{"node", "audience expirationSeconds path"}}},
	}
}

// claims are PersistentVolumes, their claims and classes.
func claims() []Struct {
	attributes := Row{
		Fields: "volumeAttributesClassName", Fate: Warned,
		Text: "there is no CSI driver whose volumes have attributes: the class changes nothing",
	}
	return []Struct{
		{Of: corev1.PersistentVolumeClaim{}, Honoured: []Honoured{{"volumes", "spec"}}},
		{
			Of:       corev1.PersistentVolumeClaimSpec{},
			Honoured: []Honoured{{"volumes", "accessModes selector resources volumeName storageClassName volumeMode"}},
			Rows: []Row{
				attributes,
				{Fields: "dataSource dataSourceRef", Fate: Event, Text: "no volume is made (ProvisioningFailed): there are neither snapshots nor clones"},
			},
		},
		{
			Of:       corev1.VolumeResourceRequirements{},
			Honoured: []Honoured{{"volumes", "requests"}},
			Rows:     []Row{{Fields: "limits", Fate: Warned, Text: "not enforced: a volume is a directory and may fill the disk"}},
		},
		{Of: corev1.PersistentVolume{}, Honoured: []Honoured{{"volumes", "spec"}}},
		{
			Of: corev1.PersistentVolumeSpec{},
			Honoured: []Honoured{{"volumes", "capacity accessModes claimRef persistentVolumeReclaimPolicy storageClassName volumeMode " +
				"nodeAffinity"}},
			Rows: []Row{attributes, {
				Fields: "mountOptions", Fate: Event,
				Text: "its pods are not started (FailedMount): a path of the host is mounted without options; leave them out",
			}},
		},
		{
			Of:       corev1.PersistentVolumeSource{},
			Honoured: []Honoured{{"node", "hostPath local"}},
			Rows:     []Row{{Fields: foreignSources, Fate: Event, Text: "its pods are not started (FailedMount): the node mounts hostPath and local only"}},
		},
		{Of: corev1.LocalVolumeSource{}, Honoured: []Honoured{{"node", "path"}}, Rows: []Row{{Fields: "fsType", Fate: Moot, Text: "about block devices, of which there are none"}}},
		{Of: corev1.VolumeNodeAffinity{}, Honoured: []Honoured{{"binder", "required"}}},
	}
}

// storageClasses are the classes of claims.
func storageClasses() []Struct {
	return []Struct{
		{
			Of:       storagev1.StorageClass{},
			Honoured: []Honoured{{"volumes", "reclaimPolicy volumeBindingMode"}, {"binder", "allowedTopologies"}},
			Rows: []Row{
				{
					Fields: "provisioner", Fate: Event, Mean: "another's",
					If: when(func(c *storagev1.StorageClass) bool {
						return !slices.Contains([]string{"svcplane.io/local-path", "kubernetes.io/no-provisioner"}, c.Provisioner)
					}),
					Text: "claims of the class wait for that provisioner (ExternalProvisioning); svcplane's own is svcplane.io/local-path",
				},
				{Fields: "parameters mountOptions", Fate: Event, Text: "svcplane.io/local-path takes none, and makes no volume of the class (ProvisioningFailed)"},
				{
					Fields: "allowVolumeExpansion", Fate: Warned, Mean: "true",
					If:   when(func(c *storagev1.StorageClass) bool { return is(c.AllowVolumeExpansion, true) }),
					Text: "nothing resizes volumes: a larger request of a claim stays without effect",
				},
			},
		},
		{Of: corev1.TopologySelectorTerm{}, Honoured: []Honoured{{"binder", "matchLabelExpressions"}}},
		{Of: corev1.TopologySelectorLabelRequirement{}, Honoured: []Honoured{{"binder", "key values"}}},
	}
}
