package apiserver

import (
	"fmt"

	"k8s.io/apiserver/pkg/features"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// disabledGroups are the stable API groups that are not served, each with what it would need to mean
// anything here. All the others are, as in a default kube-apiserver; alpha and beta ones are off upstream too.
//
//	flowcontrol   priority and fairness protects a shared control plane; one node's is not, and max-in-flight
//	              limits stay in force
//	resource      dynamic resource allocation needs a scheduler and drivers for devices
func disabledGroups() map[string]string {
	return map[string]string{
		"flowcontrol.apiserver.k8s.io/v1": "false",
		"resource.k8s.io/v1":              "false",
	}
}

// disabledFeatures are upstream features that serve a control plane of several API servers only.
//
//	APIServerIdentity                    a lease per API server, renewed every ten seconds
//	UnknownVersionInteroperabilityProxy  routes requests between API servers of different versions
func disabledFeatures() map[string]bool {
	return map[string]bool{
		string(features.APIServerIdentity):                   false,
		string(features.UnknownVersionInteroperabilityProxy): false,
	}
}

// restrict applies the choice of groups and of what else costs memory and serves nobody on one node.
func restrict(o *options.ServerRunOptions) error {
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(disabledFeatures()); err != nil {
		return fmt.Errorf("setting the api server's feature gates: %w", err)
	}
	if err := o.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("setting the api server's feature gates: %w", err)
	}
	o.APIEnablement.RuntimeConfig = disabledGroups()
	o.Features.EnablePriorityAndFairness = false
	o.Features.EnableProfiling = false
	return nil
}
