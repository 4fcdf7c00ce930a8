package fields

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// pods are the types of a pod's own fields.
func pods() []Struct {
	return []Struct{
		{Of: corev1.Pod{}, Honoured: []Honoured{{"node", "spec"}}},
		{Of: corev1.PodTemplateSpec{}, Honoured: []Honoured{{"workloads", "spec"}}},
		{Of: corev1.PodTemplate{}, Rows: []Row{{Fields: "template", Fate: Moot, Text: "kept for programs that make pods of it"}}},
		{
			Of: corev1.PodSpec{},
			Honoured: []Honoured{
				{"node", "volumes initContainers containers ephemeralContainers restartPolicy terminationGracePeriodSeconds " +
					"activeDeadlineSeconds dnsPolicy serviceAccountName nodeName hostNetwork hostPID hostIPC hostUsers securityContext " +
					"hostname subdomain hostAliases dnsConfig readinessGates enableServiceLinks setHostnameAsFQDN hostnameOverride imagePullSecrets"},
				{"binder", "nodeSelector affinity tolerations topologySpreadConstraints schedulingGates overhead resources"},
				{"API server", "serviceAccount automountServiceAccountToken"},
			},
			Rows: slices.Concat(podRejections(), podWarnings()),
		},
		{Of: corev1.LocalObjectReference{}, Honoured: []Honoured{{"node", "name"}}},
		{Of: corev1.PodDNSConfig{}, Honoured: []Honoured{{"node", "nameservers searches options"}}},
		{Of: corev1.PodDNSConfigOption{}, Honoured: []Honoured{{"node", "name value"}}},
		{Of: corev1.HostAlias{}, Honoured: []Honoured{{"node", "ip hostnames"}}},
		{Of: corev1.PodReadinessGate{}, Honoured: []Honoured{{"node", "conditionType"}}},
		{Of: corev1.PodSchedulingGate{}, Honoured: []Honoured{{"API server", "name"}}},
	}
}

// podRejections are fields that keep a pod from running: others rely on what they ask for.
func podRejections() []Row {
	return []Row{
		{
			Fields: "runtimeClassName", Fate: Rejected,
			Text: "this node has one container runtime, the default, and no handler; leave it out",
		},
		{
			Fields: "os", Fate: Rejected, Mean: "not linux", If: when(func(s *corev1.PodSpec) bool { return s.OS != nil && s.OS.Name != corev1.Linux }),
			Text: "this node runs Linux",
		},
	}
}

func podWarnings() []Row {
	return []Row{
		{
			Fields: "shareProcessNamespace", Fate: Warned, Mean: "true",
			If:   when(func(s *corev1.PodSpec) bool { return is(s.ShareProcessNamespace, true) }),
			Text: "each container keeps its processes to itself; `kubectl debug --target` shows those of one",
		},
		{
			Fields: "schedulerName", Fate: Warned, Mean: "not default-scheduler",
			If: when(func(s *corev1.PodSpec) bool {
				return s.SchedulerName != "" && s.SchedulerName != corev1.DefaultSchedulerName
			}),
			Text: "the pod stays Pending until a scheduler of that name, which svcplane is not, gives it a node",
		},
		{
			Fields: "priorityClassName", Fate: Warned,
			Text: "pods get their nodes in the order of their creation, and none is preempted; it counts when the node runs short and pods are evicted",
		},
		{Fields: "priority preemptionPolicy", Fate: Moot, Text: "set by the API server from priorityClassName"},
		{
			Fields: "resourceClaims", Fate: Warned,
			Text: "there is no dynamic resource allocation: the pod runs without the devices that it claims",
		},
		{
			Fields: "schedulingGroup", Fate: Warned,
			Text: "dropped by the API server, whose feature gate GenericWorkload is off: the pod is placed by itself",
		},
	}
}

// ofContainers are the fields that containers and ephemeral containers share; the API server refuses to the latter what makes no
// sense for them.
const ofContainers = "name image command args workingDir ports envFrom env restartPolicy restartPolicyRules volumeMounts " +
	"livenessProbe readinessProbe startupProbe lifecycle terminationMessagePath terminationMessagePolicy " +
	"imagePullPolicy securityContext stdin stdinOnce tty resizePolicy"

// containers are the types of a container's fields, but for its security context.
func containers() []Struct {
	return []Struct{
		{
			Of:       corev1.Container{},
			Honoured: []Honoured{{"node", ofContainers}},
			Rows:     []Row{volumeDevices(), unlimitedEcho()},
		},
		{Of: corev1.EphemeralContainer{}, Honoured: []Honoured{{"node", "targetContainerName"}}},
		{
			Of:       corev1.EphemeralContainerCommon{},
			Honoured: []Honoured{{"node", "resources " + ofContainers}},
			Rows:     []Row{volumeDevices()},
		},
		{
			Of:       corev1.ResourceRequirements{},
			Honoured: []Honoured{{"binder", "requests"}, {"node", "limits"}},
			Rows: []Row{
				{Fields: "claims", Fate: Warned, Text: "there is no dynamic resource allocation: the container gets no device"},
			},
		},
		{Of: corev1.ContainerResizePolicy{}, Honoured: []Honoured{{"node", "resourceName restartPolicy"}}},
		{Of: corev1.ContainerPort{}, Honoured: []Honoured{{"node", "name hostPort containerPort protocol hostIP"}}},
		{
			Of:       corev1.ContainerRestartRule{},
			Honoured: []Honoured{{"node", "exitCodes"}},
			Rows: []Row{{
				Fields: "action", Fate: Warned, Mean: "RestartAllContainers",
				If:   when(func(r *corev1.ContainerRestartRule) bool { return r.Action != corev1.ContainerRestartRuleActionRestart }),
				Text: "only this container is restarted",
			}},
		},
		{Of: corev1.ContainerRestartRuleOnExitCodes{}, Honoured: []Honoured{{"node", "operator values"}}},
	}
}

// environments are the types of what a container finds in its environment.
func environments() []Struct {
	return []Struct{
		{Of: corev1.EnvFromSource{}, Honoured: []Honoured{{"node", "prefix configMapRef secretRef"}}},
		{Of: corev1.ConfigMapEnvSource{}, Honoured: []Honoured{{"node", "optional"}}},
		{Of: corev1.SecretEnvSource{}, Honoured: []Honoured{{"node", "optional"}}},
		{Of: corev1.EnvVar{}, Honoured: []Honoured{{"node", "name value valueFrom"}}},
		{
			Of:       corev1.EnvVarSource{},
			Honoured: []Honoured{{"node", "fieldRef resourceFieldRef configMapKeyRef secretKeyRef"}},
			Rows:     []Row{{Fields: "fileKeyRef", Fate: Event, Text: "the container is not started (CreateContainerConfigError)"}},
		},
		{Of: corev1.ConfigMapKeySelector{}, Honoured: []Honoured{{"node", "key optional"}}},
		{Of: corev1.SecretKeySelector{}, Honoured: []Honoured{{"node", "key optional"}}},
		{Of: corev1.ObjectFieldSelector{}, Honoured: []Honoured{{"node", "fieldPath"}, {"API server", "apiVersion"}}},
		{Of: corev1.ResourceFieldSelector{}, Honoured: []Honoured{{"node", "containerName resource divisor"}}},
	}
}

// actions are the types of probes and hooks.
func actions() []Struct {
	return []Struct{
		{Of: corev1.Probe{}, Honoured: []Honoured{{"node", "initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold " +
			"terminationGracePeriodSeconds"}}},
		{Of: corev1.ProbeHandler{}, Honoured: []Honoured{{"node", "exec httpGet tcpSocket grpc"}}},
		{Of: corev1.ExecAction{}, Honoured: []Honoured{{"node", "command"}}},
		{Of: corev1.HTTPGetAction{}, Honoured: []Honoured{{"node", "path port host scheme httpHeaders"}}},
		{Of: corev1.HTTPHeader{}, Honoured: []Honoured{{"node", "name value"}}},
		{Of: corev1.TCPSocketAction{}, Honoured: []Honoured{{"node", "port host"}}},
		{Of: corev1.GRPCAction{}, Honoured: []Honoured{{"node", "port service"}}},
		{
			Of:       corev1.Lifecycle{},
			Honoured: []Honoured{{"node", "postStart preStop"}},
			Rows: []Row{{
				Fields: "stopSignal", Fate: Warned,
				Text: "dropped by the API server, whose feature gate ContainerStopSignals is off: containers get SIGTERM",
			}},
		},
		{
			Of:       corev1.LifecycleHandler{},
			Honoured: []Honoured{{"node", "exec httpGet sleep"}},
			Rows:     []Row{{Fields: "tcpSocket", Fate: Event, Text: "no hook, as upstream: the Event is FailedPostStartHook or FailedPreStopHook"}},
		},
		{Of: corev1.SleepAction{}, Honoured: []Honoured{{"node", "seconds"}}},
	}
}

// unlimitedEcho is about containers that are served by one process for all pods.
func unlimitedEcho() Row {
	return Row{
		Fields: "resources", Fate: Warned, Mean: "limits, of the image svcplane/echo",
		If: when(func(c *corev1.Container) bool {
			name, _, _ := strings.Cut(c.Image, ":")
			return name == "svcplane/echo" && len(c.Resources.Limits) > 0
		}),
		Text: "the limits of svcplane/echo are not enforced, but for what is executed in it: one process serves it for all pods; use another image",
	}
}

func volumeDevices() Row {
	return Row{
		Fields: "volumeDevices", Fate: Event,
		Text: "the container is not started (CreateContainerConfigError): there are no block devices; use volumeMounts",
	}
}
