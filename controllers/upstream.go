package controllers

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/cronjob"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/disruption"
	"k8s.io/kubernetes/pkg/controller/endpoint"
	"k8s.io/kubernetes/pkg/controller/endpointslice"
	"k8s.io/kubernetes/pkg/controller/endpointslicemirroring"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/nodelifecycle"
	"k8s.io/kubernetes/pkg/controller/podgc"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/replication"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	"k8s.io/kubernetes/pkg/controller/servicecidrs"
	"k8s.io/kubernetes/pkg/controller/statefulset"
	"k8s.io/kubernetes/pkg/controller/tainteviction"
	"k8s.io/kubernetes/pkg/controller/ttl"
	"k8s.io/kubernetes/pkg/controller/ttlafterfinished"
	"k8s.io/kubernetes/pkg/controller/volume/pvcprotection"
	"k8s.io/kubernetes/pkg/controller/volume/pvprotection"
	"k8s.io/kubernetes/pkg/controller/volume/vacprotection"
	tokens "k8s.io/kubernetes/pkg/serviceaccount"
)

// upstream is one upstream controller: build makes it and returns what runs it.
type upstream struct {
	name  string
	build func(ctx context.Context, p *parts) (runner, error)
}

// runner runs a controller until ctx ends. Upstream controllers report errors by logging them.
type runner func(ctx context.Context)

const (
	// workers of one controller: enough that one slow object does not hold up the others, few because each is a
	// goroutine that mostly sleeps
	workers = 2
	// endpointsPerSlice and endpointsPerSubset are upstream's defaults.
	endpointsPerSlice  = 100
	endpointsPerSubset = 1000
	// batchPeriod is how long a change of a pod waits for others before the endpoints of its Services are written: a pod that
	// ends or begins changes several times, and what is written then are all endpoints of a slice. Changes of Services do not wait.
	batchPeriod = 50 * time.Millisecond
	// finishedPods is how many finished pods are kept for people to look at. Upstream keeps 12500 for a whole cluster.
	finishedPods = 1000
)

// early lists the upstream controllers that register with informers when they are made, in the names that
// kube-controller-manager has for them.
func (cfg *Config) early() []upstream {
	all := []upstream{
		{"endpoints-controller", buildEndpoints},
		{"endpointslice-controller", buildEndpointSlice},
		{"endpointslice-mirroring-controller", buildMirroring},
		{"deployment-controller", buildDeployment},
		{"replicaset-controller", buildReplicaSet},
		{"replicationcontroller-controller", buildReplication},
		{"daemonset-controller", buildDaemonSet},
		{"statefulset-controller", buildStatefulSet},
		{"job-controller", buildJob},
		{"cronjob-controller", buildCronJob},
		{"ttl-after-finished-controller", buildTTLAfterFinished},
		{"pod-garbage-collector-controller", buildPodGC},
		{"node-lifecycle-controller", buildNodeLifecycle},
		{"taint-eviction-controller", buildTaintEviction},
		{"ttl-controller", buildTTL},
		{"disruption-controller", buildDisruption},
		{"persistentvolume-binder-controller", buildVolumes},
		{"ephemeral-volume-controller", buildEphemeral},
		{"persistentvolumeclaim-protection-controller", buildClaimProtection},
		{"persistentvolume-protection-controller", buildVolumeProtection},
		{"volumeattributesclass-protection-controller", buildVolumeClassProtection},
		{"service-cidr-controller", buildServiceCIDRs},
		{"serviceaccount-controller", buildServiceAccount},
		{"root-ca-certificate-publisher-controller", buildRootCA},
		{"clusterrole-aggregation-controller", buildClusterRoles},
	}
	if cfg.ServiceAccountKey != nil {
		all = append([]upstream{{"serviceaccount-token-controller", buildTokens}}, all...)
	}
	if cfg.ClientCA != (ClientCA{}) {
		all = append(all, upstream{"certificatesigningrequest-signing-controller", buildSigning},
			upstream{"certificatesigningrequest-cleaner-controller", buildSigningCleaner})
	}
	return all
}

// late lists those that are about every resource there is, or about one that the garbage collector follows: they ask the API
// what there is when they are made, and share the informers that the others have at work by then.
func late() []upstream {
	return []upstream{
		{"namespace-controller", buildNamespace},
		{"garbage-collector-controller", buildGarbageCollector},
		{"resourcequota-controller", buildQuota},
		{"horizontal-pod-autoscaler-controller", buildAutoscaler},
	}
}

// build makes controllers, by name.
func (p *parts) build(ctx context.Context, list []upstream) (map[string]runner, error) {
	built := map[string]runner{}
	for _, u := range list {
		run, err := u.build(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("making %s: %w", u.name, err)
		}
		built[u.name] = run
	}
	return built, nil
}

// withWorkers is the shape that most upstream controllers' Run has.
func withWorkers(run func(context.Context, int)) runner {
	return func(ctx context.Context) { run(ctx, workers) }
}

func buildEndpoints(ctx context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	c := endpoint.NewEndpointController(ctx, core.Pods(), core.Services(), core.Endpoints(), p.Client, batchPeriod)
	return withWorkers(c.Run), nil
}

func buildEndpointSlice(ctx context.Context, p *parts) (runner, error) {
	core, discovery := p.Factory.Core().V1(), p.Factory.Discovery().V1()
	c := endpointslice.NewController(ctx, core.Pods(), core.Services(), core.Nodes(), discovery.EndpointSlices(),
		endpointsPerSlice, p.Client, batchPeriod)
	return withWorkers(c.Run), nil
}

func buildMirroring(ctx context.Context, p *parts) (runner, error) {
	core, discovery := p.Factory.Core().V1(), p.Factory.Discovery().V1()
	c := endpointslicemirroring.NewController(ctx, core.Endpoints(), discovery.EndpointSlices(), core.Services(),
		endpointsPerSubset, p.Client, batchPeriod)
	return withWorkers(c.Run), nil
}

func buildDeployment(ctx context.Context, p *parts) (runner, error) {
	apps := p.Factory.Apps().V1()
	c, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), p.Factory.Core().V1().Pods(), p.Client)
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func buildReplicaSet(ctx context.Context, p *parts) (runner, error) {
	c := replicaset.NewReplicaSetController(ctx, p.Factory.Apps().V1().ReplicaSets(), p.Factory.Core().V1().Pods(),
		p.Client, replicaset.BurstReplicas)
	return withWorkers(c.Run), nil
}

func buildReplication(ctx context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	c := replication.NewReplicationManager(ctx, core.Pods(), core.ReplicationControllers(), p.Client, replication.BurstReplicas)
	return withWorkers(c.Run), nil
}

func buildDaemonSet(ctx context.Context, p *parts) (runner, error) {
	apps, core := p.Factory.Apps().V1(), p.Factory.Core().V1()
	c, err := daemon.NewDaemonSetsController(ctx, apps.DaemonSets(), apps.ControllerRevisions(), core.Pods(), core.Nodes(),
		p.Client, flowcontrol.NewBackOff(time.Second, 15*time.Minute))
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func buildStatefulSet(ctx context.Context, p *parts) (runner, error) {
	apps, core := p.Factory.Apps().V1(), p.Factory.Core().V1()
	c := statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(),
		apps.ControllerRevisions(), p.Client)
	return withWorkers(c.Run), nil
}

func buildJob(ctx context.Context, p *parts) (runner, error) {
	// the last two are for workload-aware scheduling, an alpha feature that is off
	c, err := job.NewController(ctx, p.Client, p.Factory.Core().V1().Pods(), p.Factory.Batch().V1().Jobs(), nil, nil)
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func buildCronJob(ctx context.Context, p *parts) (runner, error) {
	batch := p.Factory.Batch().V1()
	c, err := cronjob.NewControllerV2(ctx, batch.Jobs(), batch.CronJobs(), p.Client)
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func buildTTLAfterFinished(ctx context.Context, p *parts) (runner, error) {
	return withWorkers(ttlafterfinished.New(ctx, p.Factory.Batch().V1().Jobs(), p.Client).Run), nil
}

func buildPodGC(ctx context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	return podgc.NewPodGC(ctx, p.Client, core.Pods(), core.Nodes(), finishedPods).Run, nil
}

// buildNodeLifecycle makes what takes the taint off a node that became ready (admission puts it on a new one), and puts
// taints on one that stopped renewing its lease. The numbers are upstream's but the first: how soon a node that was
// declared not ready takes pods again.
func buildNodeLifecycle(ctx context.Context, p *parts) (runner, error) {
	const (
		lookEvery       = time.Second
		startupGrace    = 60 * time.Second
		leaseGrace      = 50 * time.Second
		evictionsPerSec = 0.1
		evictionsInBad  = 0.01 // when more than unhealthyZone of the nodes are gone
		largeCluster    = 50
		unhealthyZone   = 0.55
	)
	core := p.Factory.Core().V1()
	c, err := nodelifecycle.NewNodeLifecycleController(ctx, p.Factory.Coordination().V1().Leases(), core.Pods(), core.Nodes(),
		p.Factory.Apps().V1().DaemonSets(), p.Client, lookEvery, startupGrace, leaseGrace,
		evictionsPerSec, evictionsInBad, largeCluster, unhealthyZone)
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}

func buildTaintEviction(ctx context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	c, err := tainteviction.New(ctx, p.Client, core.Pods(), core.Nodes(), "taint-eviction-controller")
	if err != nil {
		return nil, err
	}
	return c.Run, nil
}

func buildTTL(ctx context.Context, p *parts) (runner, error) {
	return withWorkers(ttl.NewTTLController(ctx, p.Factory.Core().V1().Nodes(), p.Client).Run), nil
}

func buildDisruption(ctx context.Context, p *parts) (runner, error) {
	scales, err := p.scales()
	if err != nil {
		return nil, err
	}
	apps, core := p.Factory.Apps().V1(), p.Factory.Core().V1()
	c := disruption.NewDisruptionController(ctx, core.Pods(), p.Factory.Policy().V1().PodDisruptionBudgets(),
		core.ReplicationControllers(), apps.ReplicaSets(), apps.Deployments(), apps.StatefulSets(),
		p.Client, p.mapper, scales, p.discovery)
	return c.Run, nil
}

// buildClaimProtection makes what takes the finalizer off claims, which admission puts on them: without it no claim, and
// no namespace with one, could ever be deleted.
func buildClaimProtection(ctx context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	c, err := pvcprotection.NewPVCProtectionController(klog.FromContext(ctx), core.PersistentVolumeClaims(), core.Pods(), p.Client)
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func buildVolumeProtection(ctx context.Context, p *parts) (runner, error) {
	c := pvprotection.NewPVProtectionController(klog.FromContext(ctx), p.Factory.Core().V1().PersistentVolumes(), p.Client)
	return withWorkers(c.Run), nil
}

func buildVolumeClassProtection(ctx context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	c, err := vacprotection.NewVACProtectionController(klog.FromContext(ctx), p.Client, core.PersistentVolumeClaims(), core.PersistentVolumes(),
		p.Factory.Storage().V1().VolumeAttributesClasses())
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func buildServiceCIDRs(ctx context.Context, p *parts) (runner, error) {
	networking := p.Factory.Networking().V1()
	return withWorkers(servicecidrs.NewController(ctx, networking.ServiceCIDRs(), networking.IPAddresses(), p.Client).Run), nil
}

func buildServiceAccount(ctx context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	c, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), core.ServiceAccounts(), core.Namespaces(),
		p.Client, serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func buildTokens(ctx context.Context, p *parts) (runner, error) {
	generator, err := tokens.JWTTokenGenerator(tokens.LegacyIssuer, p.ServiceAccountKey)
	if err != nil {
		return nil, fmt.Errorf("signing tokens with the service-account key: %w", err)
	}
	core := p.Factory.Core().V1()
	c, err := serviceaccount.NewTokensController(klog.FromContext(ctx), core.ServiceAccounts(), core.Secrets(), p.Client,
		serviceaccount.TokensControllerOptions{TokenGenerator: generator, RootCA: p.RootCA})
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func buildRootCA(_ context.Context, p *parts) (runner, error) {
	core := p.Factory.Core().V1()
	c, err := rootcacertpublisher.NewPublisher(core.ConfigMaps(), core.Namespaces(), p.Client, p.RootCA)
	if err != nil {
		return nil, err
	}
	return withWorkers(c.Run), nil
}

func buildClusterRoles(_ context.Context, p *parts) (runner, error) {
	c := clusterroleaggregation.NewClusterRoleAggregation(p.Factory.Rbac().V1().ClusterRoles(), p.Client.RbacV1())
	return withWorkers(c.Run), nil
}
