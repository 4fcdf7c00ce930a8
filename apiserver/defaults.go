package apiserver

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	schedulinginternal "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
)

// writers is how many defaults are made at once: the store writes those that come together with one fsync.
const writers = 16

// makeDefaults fills an empty store with upstream's default RBAC roles and priority classes. Upstream's own hooks look for the
// first time a second after the start, one object after the other; they find these and go on to mend what they always mend.
func makeDefaults(ctx context.Context, config *rest.Config) error {
	config = rest.CopyConfig(config)
	config.QPS, config.ContentType = -1, runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	// the last one that upstream makes: where it is, all are
	_, err = client.RbacV1().RoleBindings(metav1.NamespacePublic).Get(ctx, "system:controller:bootstrap-signer", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	for _, namespace := range []string{metav1.NamespaceSystem, metav1.NamespacePublic} {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		if err := there(client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, pc := range schedulinginternal.SystemPriorityClasses() {
		makeDefault(ctx, group, pc.Name, pc, client.SchedulingV1().PriorityClasses())
	}
	for _, r := range slices.Concat(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()) {
		makeDefault(ctx, group, r.Name, &r, client.RbacV1().ClusterRoles())
	}
	for _, b := range slices.Concat(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()) {
		makeDefault(ctx, group, b.Name, &b, client.RbacV1().ClusterRoleBindings())
	}
	for namespace, roles := range bootstrappolicy.NamespaceRoles() {
		for _, r := range roles {
			makeDefault(ctx, group, r.Name, &r, client.RbacV1().Roles(namespace))
		}
	}
	for namespace, bindings := range bootstrappolicy.NamespaceRoleBindings() {
		for _, b := range bindings {
			makeDefault(ctx, group, b.Name, &b, client.RbacV1().RoleBindings(namespace))
		}
	}
	return group.Wait()
}

// creator is the client of one kind.
type creator[T any] interface {
	Create(ctx context.Context, object *T, opts metav1.CreateOptions) (*T, error)
}

func makeDefault[T any](ctx context.Context, group *errgroup.Group, name string, object *T, client creator[T]) {
	group.Go(func() error {
		if err := there(client.Create(ctx, object, metav1.CreateOptions{})); err != nil {
			return fmt.Errorf("making the default %T %s: %w", object, name, err)
		}
		return nil
	})
}

// there takes the outcome of a Create: that the object exists is as good.
func there[T any](_ *T, err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
