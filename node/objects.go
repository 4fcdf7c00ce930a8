package node

import (
	"context"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
)

// objects reads what pods refer to: from the informers, and from the API what they do not have. A pod and
// its ConfigMap come on two watches, and the pod may be the faster one.
type objects struct {
	client     kubernetes.Interface
	configMaps corelisters.ConfigMapLister
	secrets    corelisters.SecretLister
	claims     corelisters.PersistentVolumeClaimLister
	volumes    corelisters.PersistentVolumeLister
}

func (o *objects) ConfigMap(ctx context.Context, key types.NamespacedName) (*corev1.ConfigMap, error) {
	cm, err := o.configMaps.ConfigMaps(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return o.client.CoreV1().ConfigMaps(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	}
	return cm, err
}

func (o *objects) Secret(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error) {
	s, err := o.secrets.Secrets(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return o.client.CoreV1().Secrets(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	}
	return s, err
}

// Claim is told by the API whenever the informer does not have it as bound: the pod's binding may have come first.
func (o *objects) Claim(ctx context.Context, key types.NamespacedName) (*corev1.PersistentVolumeClaim, error) {
	claim, err := o.claims.PersistentVolumeClaims(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) || err == nil && claim.Status.Phase != corev1.ClaimBound {
		return o.client.CoreV1().PersistentVolumeClaims(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	}
	return claim, err
}

func (o *objects) Volume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	pv, err := o.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		return o.client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	}
	return pv, err
}

// requestToken asks for a token that is bound to the pod: it is worthless once the pod is gone.
func (n *Node) requestToken(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (string, time.Time, error) {
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	resp, err := n.cfg.Client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, req, metav1.CreateOptions{})
	if err != nil {
		return "", time.Time{}, err
	}
	return resp.Status.Token, resp.Status.ExpirationTimestamp.Time, nil
}
