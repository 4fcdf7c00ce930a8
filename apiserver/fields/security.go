package fields

import corev1 "k8s.io/api/core/v1"

// security are the types that say what a container may do.
func security() []Struct {
	linuxOnly := Row{Fields: "windowsOptions", Fate: Warned, Text: "this node runs Linux"}
	noSELinux := Row{
		Fields: "seLinuxOptions", Fate: Warned,
		Text: "no SELinux label is set: containers have that of the server",
	}
	return []Struct{
		{
			Of: corev1.PodSecurityContext{},
			Honoured: []Honoured{{"node", "runAsUser runAsGroup runAsNonRoot supplementalGroups fsGroup sysctls fsGroupChangePolicy " +
				"supplementalGroupsPolicy seccompProfile appArmorProfile"}},
			Rows: []Row{
				linuxOnly, noSELinux,
				{Fields: "seLinuxChangePolicy", Fate: Warned, Text: "no SELinux label is set: files keep theirs"},
			},
		},
		{Of: corev1.Sysctl{}, Honoured: []Honoured{{"node", "name value"}}},
		{
			Of: corev1.SecurityContext{},
			Honoured: []Honoured{{"node", "capabilities privileged runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem " +
				"allowPrivilegeEscalation procMount seccompProfile appArmorProfile"}},
			Rows: []Row{linuxOnly, noSELinux},
		},
		{Of: corev1.Capabilities{}, Honoured: []Honoured{{"node", "add drop"}}},
	}
}

// profiles are the types of what the kernel is to hold a container to.
func profiles() []Struct {
	return []Struct{
		{Of: corev1.SeccompProfile{}, Honoured: []Honoured{{"node", "type localhostProfile"}}},
		{
			Of: corev1.AppArmorProfile{},
			Rows: []Row{
				{
					Fields: "type", Fate: Rejected, Mean: "RuntimeDefault, Localhost",
					If:   when(func(s *corev1.AppArmorProfile) bool { return s.Type != corev1.AppArmorProfileTypeUnconfined }),
					Text: "no AppArmor profile is applied here, and upstream does not run such a pod either where AppArmor is off; leave it out",
				},
				{Fields: "localhostProfile", Fate: Moot, Text: "the pod is not run for its type"},
			},
		},
	}
}

// placement are the types that say where a pod may run.
func placement() []Struct {
	const oneNode = "there is one node, which every preference leads to"
	return []Struct{
		{Of: corev1.Affinity{}, Honoured: []Honoured{{"binder", "nodeAffinity podAffinity podAntiAffinity"}}},
		{
			Of:       corev1.NodeAffinity{},
			Honoured: []Honoured{{"binder", "requiredDuringSchedulingIgnoredDuringExecution"}},
			Rows:     []Row{{Fields: "preferredDuringSchedulingIgnoredDuringExecution", Fate: Moot, Text: oneNode}},
		},
		{Of: corev1.NodeSelector{}, Honoured: []Honoured{{"binder", "nodeSelectorTerms"}}},
		{Of: corev1.NodeSelectorTerm{}, Honoured: []Honoured{{"binder", "matchExpressions matchFields"}}},
		{Of: corev1.NodeSelectorRequirement{}, Honoured: []Honoured{{"binder", "key operator values"}}},
		{
			Of:       corev1.PodAffinity{},
			Honoured: []Honoured{{"binder", "requiredDuringSchedulingIgnoredDuringExecution"}},
			Rows:     []Row{{Fields: "preferredDuringSchedulingIgnoredDuringExecution", Fate: Moot, Text: oneNode}},
		},
		{
			Of:       corev1.PodAntiAffinity{},
			Honoured: []Honoured{{"binder", "requiredDuringSchedulingIgnoredDuringExecution"}},
			Rows:     []Row{{Fields: "preferredDuringSchedulingIgnoredDuringExecution", Fate: Moot, Text: oneNode}},
		},
		{Of: corev1.PodAffinityTerm{}, Honoured: []Honoured{
			{"binder", "labelSelector namespaces topologyKey namespaceSelector"},
			{"API server", "matchLabelKeys mismatchLabelKeys"}, // merged into labelSelector (KEP-3633)
		}},
		{Of: corev1.TopologySpreadConstraint{}, Honoured: []Honoured{
			{"binder", "maxSkew topologyKey whenUnsatisfiable labelSelector minDomains nodeAffinityPolicy nodeTaintsPolicy"},
			{"API server", "matchLabelKeys"}, // merged into labelSelector (KEP-3243)
		}},
		{Of: corev1.Toleration{}, Honoured: []Honoured{
			{"binder", "key operator value effect"}, {"taint-eviction-controller", "tolerationSeconds"},
		}},
	}
}
