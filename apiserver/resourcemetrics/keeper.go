package resourcemetrics

import (
	"context"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Name is that of the APIService.
const Name = "v1beta1." + v1beta1.GroupName

// Keeper registers the group with the aggregator as long as nobody else serves it.
type Keeper struct {
	Client   kubernetes.Interface
	Services aggregator.APIServiceInterface
	Informer cache.SharedIndexInformer // of APIServices
	Served   bool                      // whether there is anybody who measures
}

// retryAfter is when to try again what the API refused.
const retryAfter = 5 * time.Second

// Run keeps it so until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	poke := func(o any) {
		if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = last.Obj
		}
		if s, ok := o.(*apiregistrationv1.APIService); ok && s.Name == Name {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
	handler, err := k.Informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: poke, UpdateFunc: func(_, o any) { poke(o) }, DeleteFunc: poke,
	})
	if err != nil {
		return fmt.Errorf("following APIServices: %w", err)
	}
	if !cache.WaitForCacheSync(ctx.Done(), handler.HasSynced) {
		return nil
	}
	for {
		var again <-chan time.Time
		if err := k.sync(ctx); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Registering metrics.k8s.io; trying again")
			again = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-again:
		}
	}
}

// sync makes what is missing, and removes what would lead to nobody.
func (k *Keeper) sync(ctx context.Context) error {
	have, err := k.Services.Get(ctx, Name, metav1.GetOptions{})
	switch {
	case err == nil && !k.Served && have.Spec.Service == nil:
		if err := k.Services.Delete(ctx, Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing APIService %s, since there is no node here: %w", Name, err)
		}
		return nil
	case err == nil || !k.Served && apierrors.IsNotFound(err):
		return nil
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("reading APIService %s: %w", Name, err)
	}
	if _, err := k.Services.Create(ctx, service(), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating APIService %s: %w", Name, err)
	}
	if _, err := k.Client.RbacV1().ClusterRoles().Create(ctx, reader(), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating the role of readers of metrics: %w", err)
	}
	return nil
}

// service has metrics-server's priorities, so that its manifest changes nothing but who serves.
func service() *apiregistrationv1.APIService {
	s := &apiregistrationv1.APIService{}
	s.Name = Name
	s.Spec = apiregistrationv1.APIServiceSpec{
		Group: v1beta1.GroupName, Version: v1beta1.SchemeGroupVersion.Version, GroupPriorityMinimum: 100, VersionPriority: 100,
	}
	return s
}

// reader is metrics-server's role, by which those with view, edit and admin read metrics.
func reader() *rbacv1.ClusterRole {
	role := &rbacv1.ClusterRole{Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{v1beta1.GroupName}, Resources: []string{"pods", "nodes"}, Verbs: []string{"get", "list", "watch"},
	}}}
	role.Name = "system:aggregated-metrics-reader"
	role.Labels = map[string]string{}
	for _, to := range []string{"view", "edit", "admin"} {
		role.Labels["rbac.authorization.k8s.io/aggregate-to-"+to] = "true"
	}
	return role
}
