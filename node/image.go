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
	access   *imageAccess
	secret   func(context.Context, types.NamespacedName) (*corev1.Secret, error)

	mu   sync.Mutex
	last map[string]*pullFailure // by back-off key
}

// pullFailure is what the last pull of an image for a pod said.
type pullFailure struct {
	message   string
	announced bool // that it is being waited
}

func newImages(service internalapi.ImageManagerService, recorder record.EventRecorder, dir string, secret func(context.Context, types.NamespacedName) (*corev1.Secret, error)) *images {
	return &images{
		service:  service,
		recorder: recorder,
		secret:   secret,
		access:   &imageAccess{dir: dir, service: service},
		backOff:  flowcontrol.NewBackOff(backOffInitial, backOffMax),
		last:     map[string]*pullFailure{},
	}
}

// ensure gives the reference by which the runtime knows the image of c. On failure it gives the waiting
// reason: InvalidImageName, ImageInspectError, ErrImageNeverPull, ErrImagePull or ImagePullBackOff.
func (im *images) ensure(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sandbox *runtimeapi.PodSandboxConfig, waits func(string)) (string, *podplan.Why) {
	ref := objectRef(pod, c)
	image, err := withTag(c.Image)
	if err != nil {
		message := fmt.Sprintf("Failed to apply default image tag %q: %v", c.Image, err)
		im.recorder.Event(ref, corev1.EventTypeWarning, "InspectFailed", message)
		return "", &podplan.Why{Reason: "InvalidImageName", Message: message}
	}
	spec := &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: c.Image, Annotations: pod.Annotations}
	creds := credentials(sync.OnceValues(func() ([]credentialprovider.TrackedAuthConfig, error) { return im.credentials(ctx, pod, ref, image) }))
	never := func() (string, *podplan.Why) { // the same whether it is not here, or not for this pod
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
		im.recorder.Event(ref, corev1.EventTypeWarning, "ErrImageNeverPull", message)
		return "", &podplan.Why{Reason: "ErrImageNeverPull", Message: message}
	}
	if c.ImagePullPolicy != corev1.PullAlways {
		resp, err := im.service.ImageStatus(ctx, spec, false)
		if err != nil {
			message := fmt.Sprintf("Failed to inspect image %q: %v", c.Image, err)
			im.recorder.Event(ref, corev1.EventTypeWarning, "InspectFailed", message)
			return "", &podplan.Why{Reason: "ImageInspectError", Message: message}
		}
		if resp.GetImage() != nil {
			must, err := im.access.mustPull(ctx, c.Image, resp.Image.Id, creds)
			if err != nil {
				return "", &podplan.Why{Reason: "ErrImagePull", Message: err.Error()}
			}
			if !must {
				im.recorder.Eventf(ref, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", c.Image)
				return resp.Image.Id, nil
			}
		}
		if c.ImagePullPolicy == corev1.PullNever {
			return never()
		}
	}
	return im.pull(ctx, pod, ref, pulling{spec, sandbox, creds, waits})
}

func backOffKey(pod *corev1.Pod, image string) string { return string(pod.UID) + "_" + image }

// pulling is what is pulled, and with what.
type pulling struct {
	spec    *runtimeapi.ImageSpec
	sandbox *runtimeapi.PodSandboxConfig
	creds   credentials
	waits   func(message string) // what the container waits for; called by the goroutine that pulls, while it waits; nil: nobody asks
}

func (im *images) pull(ctx context.Context, pod *corev1.Pod, ref *corev1.ObjectReference, p pulling) (string, *podplan.Why) {
	spec := p.spec
	key := backOffKey(pod, spec.Image)
	if im.backOff.IsInBackOffSinceUpdate(key, im.backOff.Clock.Now()) {
		return "", im.backingOff(key, ref, spec.Image)
	}
	end, err := im.access.begin(ctx, spec.UserSpecifiedImage)
	if err != nil {
		return "", &podplan.Why{Reason: "ErrImagePull", Message: fmt.Sprintf("Failed to record image pull intent for container image %q: %v", spec.Image, err)}
	}
	im.recorder.Eventf(ref, corev1.EventTypeNormal, "Pulling", "Pulling image %q", spec.Image)
	start := time.Now()
	id, used, err := im.watched(ctx, ref, p)
	end(id, used)
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

// watched pulls, and tells how far that is.
func (im *images) watched(ctx context.Context, ref *corev1.ObjectReference, p pulling) (id string, used *credentialprovider.TrackedAuthConfig, err error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		id, used, err = im.pullAs(ctx, p)
	}()
	t := progress{image: p.spec.Image, event: func(text string) { im.recorder.Event(ref, corev1.EventTypeNormal, "Pulling", text) }, wait: p.waits}
	if s, ok := im.service.(interface {
		PullProgress(ref string) (done, total int64, ok bool)
	}); ok && p.waits != nil {
		t.look = func() (done, total int64, ok bool) { return s.PullProgress(p.spec.Image) }
	}
	t.follow(ctx, ended)
	<-ended // a pull ends with its context
	return id, used, err
}

// credentials are those that a pod has for an image's registry. A Secret that is not there is told, and the pull goes on without.
func (im *images) credentials(ctx context.Context, pod *corev1.Pod, ref *corev1.ObjectReference, image string) ([]credentialprovider.TrackedAuthConfig, error) {
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
		return nil, fmt.Errorf("reading the image pull secrets of the pod: %w", err)
	}
	repository, err := name.ParseReference(image)
	if err != nil {
		return nil, err
	}
	creds, _ := keyring.Lookup(strings.Replace(repository.Context().Name(), name.DefaultRegistry, "docker.io", 1))
	return creds, nil
}

// pullAs tries the credentials that the pod has for the image's registry, one after the other, as a kubelet does
// (Kubernetes: "Pull an Image from a Private Registry"), and says which one has done it; nil: none was needed.
func (im *images) pullAs(ctx context.Context, p pulling) (string, *credentialprovider.TrackedAuthConfig, error) {
	creds, err := p.creds()
	if err != nil {
		return "", nil, err
	}
	if len(creds) == 0 {
		id, err := im.service.PullImage(ctx, p.spec, nil, p.sandbox)
		return id, nil, err
	}
	var failed []error
	for _, c := range creds {
		id, err := im.service.PullImage(ctx, p.spec, &runtimeapi.AuthConfig{Username: c.Username, Password: c.Password, Auth: c.Auth,
			ServerAddress: c.ServerAddress, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}, p.sandbox)
		if err == nil {
			return id, &c, nil
		}
		failed = append(failed, err)
	}
	return "", nil, utilerrors.NewAggregate(failed)
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
