package node

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/secrets"

	podplan "svcplane/node/pod"
)

// Limits of every back-off of a node (Kubernetes: "Container restart policy").
const (
	backOffInitial = 10 * time.Second
	backOffMax     = 5 * time.Minute
)

// images makes sure that images are there.
type images struct {
	service  internalapi.ImageManagerService
	recorder record.EventRecorder
	backOff  *flowcontrol.Backoff
	secret   func(context.Context, types.NamespacedName) (*corev1.Secret, error)

	mu   sync.Mutex
	last map[string]*pullFailure // by back-off key
}

// pullFailure is what the last pull of an image for a pod said.
type pullFailure struct {
	message   string
	announced bool // that it is being waited
}

func newImages(service internalapi.ImageManagerService, recorder record.EventRecorder, secret func(context.Context, types.NamespacedName) (*corev1.Secret, error)) *images {
	return &images{
		service:  service,
		recorder: recorder,
		secret:   secret,
		backOff:  flowcontrol.NewBackOff(backOffInitial, backOffMax),
		last:     map[string]*pullFailure{},
	}
}

// ensure gives the reference by which the runtime knows the image of c. On failure it gives the waiting
// reason: InvalidImageName, ImageInspectError, ErrImageNeverPull, ErrImagePull or ImagePullBackOff.
func (im *images) ensure(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sandbox *runtimeapi.PodSandboxConfig) (string, *podplan.Why) {
	ref := objectRef(pod, c)
	image, err := withTag(c.Image)
	if err != nil {
		message := fmt.Sprintf("Failed to apply default image tag %q: %v", c.Image, err)
		im.recorder.Event(ref, corev1.EventTypeWarning, "InspectFailed", message)
		return "", &podplan.Why{Reason: "InvalidImageName", Message: message}
	}
	spec := &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: c.Image, Annotations: pod.Annotations}
	if c.ImagePullPolicy != corev1.PullAlways {
		resp, err := im.service.ImageStatus(ctx, spec, false)
		if err != nil {
			message := fmt.Sprintf("Failed to inspect image %q: %v", c.Image, err)
			im.recorder.Event(ref, corev1.EventTypeWarning, "InspectFailed", message)
			return "", &podplan.Why{Reason: "ImageInspectError", Message: message}
		}
		if resp.GetImage() != nil {
			im.recorder.Eventf(ref, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine", c.Image)
			return resp.Image.Id, nil
		}
		if c.ImagePullPolicy == corev1.PullNever {
			message := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
			im.recorder.Event(ref, corev1.EventTypeWarning, "ErrImageNeverPull", message)
			return "", &podplan.Why{Reason: "ErrImageNeverPull", Message: message}
		}
	}
	return im.pull(ctx, pod, ref, spec, sandbox)
}

func backOffKey(pod *corev1.Pod, image string) string { return string(pod.UID) + "_" + image }

func (im *images) pull(ctx context.Context, pod *corev1.Pod, ref *corev1.ObjectReference, spec *runtimeapi.ImageSpec, sandbox *runtimeapi.PodSandboxConfig) (string, *podplan.Why) {
	key := backOffKey(pod, spec.Image)
	if im.backOff.IsInBackOffSinceUpdate(key, im.backOff.Clock.Now()) {
		return "", im.backingOff(key, ref, spec.Image)
	}
	im.recorder.Eventf(ref, corev1.EventTypeNormal, "Pulling", "Pulling image %q", spec.Image)
	start := time.Now()
	id, err := im.pullAs(ctx, pod, ref, spec, sandbox)
	if err != nil && ctx.Err() != nil {
		return "", &podplan.Why{Reason: "ErrImagePull", Message: statusText(err)} // the pod is going away: no reason to wait longer
	}
	if err != nil {
		message := statusText(err)
		im.recorder.Eventf(ref, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", spec.Image, message)
		im.backOff.Next(key, im.backOff.Clock.Now())
		im.remember(key, "ErrImagePull: "+message)
		return "", &podplan.Why{Reason: "ErrImagePull", Message: message}
	}
	im.remember(key, "")
	took, size := time.Since(start).Truncate(time.Millisecond), uint64(0)
	if resp, err := im.service.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: id}, false); err == nil {
		size = resp.GetImage().GetSize()
	}
	im.recorder.Eventf(ref, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.", spec.Image, took, took, size)
	return id, nil
}

// pullAs tries the credentials that the pod has for the image's registry, one after the other, as a kubelet does
// (Kubernetes: "Pull an Image from a Private Registry"). A Secret that is not there is told, and the pull goes on without.
func (im *images) pullAs(ctx context.Context, pod *corev1.Pod, ref *corev1.ObjectReference, spec *runtimeapi.ImageSpec, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	var found []corev1.Secret
	var missing []string
	for _, s := range pod.Spec.ImagePullSecrets {
		secret, err := im.secret(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: s.Name})
		if err != nil {
			missing = append(missing, s.Name)
			continue
		}
		found = append(found, *secret)
	}
	if len(missing) > 0 {
		im.recorder.Eventf(ref, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", "))
	}
	keyring, err := secrets.MakeDockerKeyring(found, &credentialprovider.BasicDockerKeyring{})
	if err != nil {
		return "", fmt.Errorf("reading the image pull secrets of the pod: %w", err)
	}
	repository, err := name.ParseReference(spec.Image)
	if err != nil {
		return "", err
	}
	creds, _ := keyring.Lookup(strings.Replace(repository.Context().Name(), name.DefaultRegistry, "docker.io", 1))
	if len(creds) == 0 {
		return im.service.PullImage(ctx, spec, nil, sandbox)
	}
	var failed []error
	for _, c := range creds {
		id, err := im.service.PullImage(ctx, spec, &runtimeapi.AuthConfig{Username: c.Username, Password: c.Password, Auth: c.Auth,
			ServerAddress: c.ServerAddress, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}, sandbox)
		if err == nil {
			return id, nil
		}
		failed = append(failed, err)
	}
	return "", utilerrors.NewAggregate(failed)
}

// backingOff says once per failed pull, as an Event, that the next one has to wait.
func (im *images) backingOff(key string, ref *corev1.ObjectReference, image string) *podplan.Why {
	im.mu.Lock()
	defer im.mu.Unlock()
	message := fmt.Sprintf("Back-off pulling image %q", image)
	before := im.last[key]
	if before == nil {
		return &podplan.Why{Reason: "ImagePullBackOff", Message: message}
	}
	if !before.announced {
		im.recorder.Event(ref, corev1.EventTypeNormal, "BackOff", message)
		before.announced = true
	}
	return &podplan.Why{Reason: "ImagePullBackOff", Message: message + ": " + before.message}
}

func (im *images) remember(key, text string) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if text == "" {
		delete(im.last, key)
	} else {
		im.last[key] = &pullFailure{message: text}
	}
}

// forget drops what was remembered for a pod.
func (im *images) forget(pod *corev1.Pod) {
	prefix := backOffKey(pod, "")
	im.mu.Lock()
	defer im.mu.Unlock()
	for key := range im.last {
		if strings.HasPrefix(key, prefix) {
			delete(im.last, key)
			im.backOff.DeleteEntry(key)
		}
	}
}

// withTag adds :latest to a reference that has neither tag nor digest and keeps it short otherwise: it is
// for the runtime to say which registry a short name means.
func withTag(image string) (string, error) {
	ref, err := name.ParseReference(image, name.WeakValidation)
	if err != nil {
		return "", err
	}
	if tag, ok := ref.(name.Tag); ok && !strings.HasSuffix(image, ":"+tag.TagStr()) {
		return image + ":" + tag.TagStr(), nil
	}
	return image, nil
}
