package fields

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// workloads are the kinds that make pods and keep them up; upstream's controllers carry them out.
func workloads() []Struct {
	const deployment, set, replicaSet, daemon = "deployment-controller", "statefulset-controller", "replicaset-controller", "daemonset-controller"
	return []Struct{
		{Of: appsv1.Deployment{}, Honoured: []Honoured{{deployment, "spec"}}},
		{Of: appsv1.DeploymentSpec{}, Honoured: []Honoured{{deployment, "replicas selector template strategy minReadySeconds " +
			"revisionHistoryLimit paused progressDeadlineSeconds"}}},
		{Of: appsv1.DeploymentStrategy{}, Honoured: []Honoured{{deployment, "type rollingUpdate"}}},
		{Of: appsv1.RollingUpdateDeployment{}, Honoured: []Honoured{{deployment, "maxUnavailable maxSurge"}}},
		{Of: appsv1.StatefulSet{}, Honoured: []Honoured{{set, "spec"}}},
		{Of: appsv1.StatefulSetSpec{}, Honoured: []Honoured{{set, "replicas selector template volumeClaimTemplates serviceName " +
			"podManagementPolicy updateStrategy revisionHistoryLimit minReadySeconds persistentVolumeClaimRetentionPolicy ordinals"}}},
		{Of: appsv1.StatefulSetUpdateStrategy{}, Honoured: []Honoured{{set, "type rollingUpdate"}}},
		{
			Of:       appsv1.RollingUpdateStatefulSetStrategy{},
			Honoured: []Honoured{{set, "partition"}},
			Rows: []Row{{
				Fields: "maxUnavailable", Fate: Warned,
				Text: "dropped by the API server, whose feature gate MaxUnavailableStatefulSet is off: pods are replaced one by one",
			}},
		},
		{Of: appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}, Honoured: []Honoured{{set, "whenDeleted whenScaled"}}},
		{Of: appsv1.StatefulSetOrdinals{}, Honoured: []Honoured{{set, "start"}}},
		{Of: appsv1.DaemonSet{}, Honoured: []Honoured{{daemon, "spec"}}},
		{Of: appsv1.DaemonSetSpec{}, Honoured: []Honoured{{daemon, "selector template updateStrategy minReadySeconds revisionHistoryLimit"}}},
		{Of: appsv1.DaemonSetUpdateStrategy{}, Honoured: []Honoured{{daemon, "type rollingUpdate"}}},
		{Of: appsv1.RollingUpdateDaemonSet{}, Honoured: []Honoured{{daemon, "maxUnavailable maxSurge"}}},
		{Of: appsv1.ReplicaSet{}, Honoured: []Honoured{{replicaSet, "spec"}}},
		{Of: appsv1.ReplicaSetSpec{}, Honoured: []Honoured{{replicaSet, "replicas minReadySeconds selector template"}}},
		{Of: corev1.ReplicationController{}, Honoured: []Honoured{{replicaSet, "spec"}}},
		{Of: corev1.ReplicationControllerSpec{}, Honoured: []Honoured{{replicaSet, "replicas minReadySeconds selector template"}}},
	}
}

func jobs() []Struct {
	const job, cron = "job-controller", "cronjob-controller"
	return []Struct{
		{Of: batchv1.Job{}, Honoured: []Honoured{{job, "spec"}}},
		{Of: batchv1.JobSpec{}, Honoured: []Honoured{
			{job, "parallelism completions activeDeadlineSeconds podFailurePolicy successPolicy backoffLimit backoffLimitPerIndex " +
				"maxFailedIndexes selector template completionMode suspend podReplacementPolicy managedBy"},
			{"ttl-after-finished-controller", "ttlSecondsAfterFinished"},
			{"API server", "manualSelector"},
		}},
		{Of: batchv1.PodFailurePolicy{}, Honoured: []Honoured{{job, "rules"}}},
		{Of: batchv1.PodFailurePolicyRule{}, Honoured: []Honoured{{job, "action onExitCodes onPodConditions"}}},
		{Of: batchv1.PodFailurePolicyOnExitCodesRequirement{}, Honoured: []Honoured{{job, "containerName operator values"}}},
		{Of: batchv1.PodFailurePolicyOnPodConditionsPattern{}, Honoured: []Honoured{{job, "type status"}}},
		{Of: batchv1.SuccessPolicy{}, Honoured: []Honoured{{job, "rules"}}},
		{Of: batchv1.SuccessPolicyRule{}, Honoured: []Honoured{{job, "succeededIndexes succeededCount"}}},
		{Of: batchv1.CronJob{}, Honoured: []Honoured{{cron, "spec"}}},
		{Of: batchv1.CronJobSpec{}, Honoured: []Honoured{{cron, "schedule timeZone startingDeadlineSeconds concurrencyPolicy suspend " +
			"jobTemplate successfulJobsHistoryLimit failedJobsHistoryLimit"}}},
		{Of: batchv1.JobTemplateSpec{}, Honoured: []Honoured{{cron, "spec"}}},
	}
}

// autoscaling are the objects that say how many pods there are to be.
func autoscaling() []Struct {
	const scaler = "horizontal-pod-autoscaler-controller"
	return []Struct{
		{Of: autoscalingv2.HorizontalPodAutoscaler{}, Honoured: []Honoured{{scaler, "spec"}}},
		{
			Of:       autoscalingv2.HorizontalPodAutoscalerSpec{},
			Honoured: []Honoured{{scaler, "scaleTargetRef minReplicas maxReplicas behavior metrics"}},
		},
		{
			Of:       autoscalingv2.MetricSpec{},
			Honoured: []Honoured{{scaler, "type resource containerResource"}},
			Rows: []Row{{
				Fields: "object pods external", Fate: Condition,
				Text: "no adapter serves such metrics: ScalingActive is False with FailedGetObjectMetric, FailedGetPodsMetric or " +
					"FailedGetExternalMetric, and an Event says it; those that an APIService of yours serves count",
			}},
		},
		{Of: autoscalingv2.ResourceMetricSource{}, Honoured: []Honoured{{scaler, "name target"}}},
		{Of: autoscalingv2.ContainerResourceMetricSource{}, Honoured: []Honoured{{scaler, "name target container"}}},
		{Of: autoscalingv2.MetricTarget{}, Honoured: []Honoured{{scaler, "type value averageValue averageUtilization"}}},
		{Of: autoscalingv2.CrossVersionObjectReference{}, Honoured: []Honoured{{scaler, "kind name apiVersion"}}},
		{Of: autoscalingv2.HorizontalPodAutoscalerBehavior{}, Honoured: []Honoured{{scaler, "scaleUp scaleDown"}}},
		{Of: autoscalingv2.HPAScalingRules{}, Honoured: []Honoured{{scaler, "stabilizationWindowSeconds selectPolicy policies tolerance"}}},
		{Of: autoscalingv2.HPAScalingPolicy{}, Honoured: []Honoured{{scaler, "type value periodSeconds"}}},
		{Of: policyv1.PodDisruptionBudget{}, Honoured: []Honoured{{"disruption-controller", "spec"}}},
		{Of: policyv1.PodDisruptionBudgetSpec{}, Honoured: []Honoured{
			{"disruption-controller", "minAvailable maxUnavailable selector"}, {"API server", "unhealthyPodEvictionPolicy"},
		}},
	}
}

// metas are types of no kind's own.
func metas() []Struct {
	return []Struct{
		{Of: metav1.LabelSelector{}, Honoured: []Honoured{{"selectors", "matchLabels matchExpressions"}}},
		{Of: metav1.LabelSelectorRequirement{}, Honoured: []Honoured{{"selectors", "key operator values"}}},
	}
}
