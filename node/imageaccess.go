package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/credentialprovider"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/images/pullmanager"
)

// imageAccess keeps who may use which image: what was pulled with a Secret is for pods that have it, or whom the registry lets
// (KEP-2535). What came by other ways than a pod, an import or `svcplane image pull`, is for all: the kubelet's default,
// NeverVerifyPreloadedImages.
type imageAccess struct {
	dir     string // image_manager is below it, as in a kubelet's directory
	service internalapi.ImageManagerService

	mu      sync.Mutex
	manager *pullmanager.PullManager // nil: the records could not be opened yet
}

// credentials are those of a pod for one image, looked up when they are needed.
type credentials func() ([]credentialprovider.TrackedAuthConfig, error)

// records opens what an earlier process has written, once.
func (a *imageAccess) records(ctx context.Context) (*pullmanager.PullManager, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.manager != nil {
		return a.manager, nil
	}
	files, err := pullmanager.NewFSPullRecordsAccessor(klog.FromContext(ctx), a.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the records of pulled images in %s: %w", a.dir, err)
	}
	const stripes = 16
	a.manager, err = pullmanager.NewImagePullManager(ctx, files, pullmanager.NeverVerifyPreloadedPullPolicy(), listedImages{service: a.service}, stripes)
	return a.manager, err
}

// listedImages is all that the records ask of a runtime.
type listedImages struct {
	kubecontainer.ImageService
	service internalapi.ImageManagerService
}

// ListImages tells which pulls came to an end that nobody could write down any more.
func (l listedImages) ListImages(ctx context.Context) ([]kubecontainer.Image, error) {
	all, err := l.service.ListImages(ctx, nil)
	var out []kubecontainer.Image
	for _, image := range all {
		out = append(out, kubecontainer.Image{ID: image.Id, RepoTags: image.RepoTags, RepoDigests: image.RepoDigests})
	}
	return out, err
}

// free says whether no registry decides about an image: it is builtin, an alias, or was imported.
func (a *imageAccess) free(image string) bool {
	s, ok := a.service.(interface{ Preloaded(ref string) bool })
	return ok && s.Preloaded(image)
}

// mustPull says whether an image that is here has to be asked for in its registry, with what the pod has.
func (a *imageAccess) mustPull(ctx context.Context, image, id string, of credentials) (bool, error) {
	if a.free(image) {
		return false, nil
	}
	m, err := a.records(ctx)
	if err != nil {
		return false, err
	}
	return m.MustAttemptImagePull(ctx, image, id, func() ([]kubeletconfig.ImagePullSecret, *kubeletconfig.ImagePullServiceAccount, error) {
		found, err := of()
		var list []kubeletconfig.ImagePullSecret
		for _, c := range found {
			if c.Source != nil && c.Source.Secret != nil {
				list = append(list, pullSecret(&c))
			}
		}
		return list, nil, err
	})
}

func pullSecret(c *credentialprovider.TrackedAuthConfig) kubeletconfig.ImagePullSecret {
	s := c.Source.Secret
	return kubeletconfig.ImagePullSecret{UID: s.UID, Namespace: s.Namespace, Name: s.Name, CredentialHash: c.AuthConfigHash}
}

// begin records that an image is being pulled. end has to be called with its id, empty if that failed, and what it was pulled with.
func (a *imageAccess) begin(ctx context.Context, image string) (end func(id string, with *credentialprovider.TrackedAuthConfig), err error) {
	if a.free(image) {
		return func(string, *credentialprovider.TrackedAuthConfig) {}, nil
	}
	m, err := a.records(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.RecordPullIntent(klog.FromContext(ctx), image); err != nil {
		return nil, err
	}
	return func(id string, with *credentialprovider.TrackedAuthConfig) {
		ctx := context.WithoutCancel(ctx)
		switch {
		case id == "":
			m.RecordImagePullFailed(ctx, image)
		case with == nil || with.Source == nil || with.Source.Secret == nil:
			m.RecordImagePulled(ctx, image, id, &kubeletconfig.ImagePullCredentials{NodePodsAccessible: true})
		default:
			m.RecordImagePulled(ctx, image, id, &kubeletconfig.ImagePullCredentials{KubernetesSecrets: []kubeletconfig.ImagePullSecret{pullSecret(with)}})
		}
	}, nil
}

// prune forgets images that are gone.
func (a *imageAccess) prune(ctx context.Context, left []string, began time.Time) {
	if m, err := a.records(ctx); err == nil {
		m.PruneUnknownRecords(ctx, left, began)
	}
}
