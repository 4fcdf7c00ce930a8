package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// privateImages is a runtime whose registry lets those have private:1 who know the password, and everybody public:1.
type privateImages struct {
	internalapi.ImageManagerService
	here     map[string]bool
	imported map[string]bool
	pulls    []string // name, and with which password
	takes    time.Duration
	done     int64
	broken   bool
}

func (p *privateImages) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	if !p.here[spec.Image] {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: "sha256:" + spec.Image}}, nil
}

func (p *privateImages) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	var all []*runtimeapi.Image
	for image := range p.here {
		all = append(all, &runtimeapi.Image{Id: "sha256:" + image, RepoTags: []string{image}})
	}
	return all, nil
}

func (p *privateImages) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	p.pulls = append(p.pulls, spec.Image+" "+auth.GetPassword())
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if p.broken || strings.HasPrefix(spec.Image, "lan/private") && auth.GetPassword() != "right" && !p.imported[spec.Image] {
		return "", errors.New("UNAUTHORIZED: authentication required")
	}
	p.here[spec.Image] = true
	return "sha256:" + spec.Image, nil
}

func (p *privateImages) Preloaded(ref string) bool { return p.imported[ref] }

func (p *privateImages) PullProgress(string) (done, total int64, ok bool) {
	p.done += 10e6
	return p.done, 100e6, true
}

// pullLab is what ensures images, as of one start of the process.
type pullLab struct {
	*images
	service *privateImages
	events  *record.FakeRecorder
}

func newPullLab(dir string, service *privateImages) *pullLab {
	secret := func(_ context.Context, key types.NamespacedName) (*corev1.Secret, error) {
		password, ok := map[string]string{"right": "right", "same": "right", "wrong": "wrong"}[key.Name]
		if !ok {
			return nil, errors.New("not found")
		}
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: types.UID(key.Namespace + key.Name)}, Type: corev1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"docker.io/lan":{"username":"toad","password":"` + password + `"}}}`)}}, nil
	}
	events := record.NewFakeRecorder(1000)
	return &pullLab{newImages(service, events, dir, secret), service, events}
}

// ask is what becomes of a pod's wish for an image: Pulled, or why it waits.
func (l *pullLab) ask(namespace, image string, policy corev1.PullPolicy, secrets ...string) string {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web", UID: types.UID(fmt.Sprint(namespace, secrets, policy))}}
	for _, s := range secrets {
		p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	c := &corev1.Container{Name: "main", Image: image, ImagePullPolicy: policy}
	id, bad := l.ensure(context.Background(), p, c, nil, func(string) {})
	if bad != nil {
		return bad.Reason + ": " + bad.Message
	}
	return id
}

func newService() *privateImages {
	return &privateImages{here: map[string]bool{}, imported: map[string]bool{}}
}

// TestPrivateImagesAreForThoseWhoMayPullThem is KEP-2535's table.
func TestPrivateImagesAreForThoseWhoMayPullThem(t *testing.T) {
	const private, public, id = "lan/private:1", "lan/public:1", "sha256:lan/private:1"
	dir, service := t.TempDir(), newService()
	l := newPullLab(dir, service)
	check := func(what, got, want string, pulls ...string) {
		t.Helper()
		if got != want || !slices.Equal(service.pulls, pulls) {
			t.Errorf("%s: %s after %q, want %s after %q", what, got, service.pulls, want, pulls)
		}
		service.pulls = nil
	}
	const refused = "ErrImagePull: UNAUTHORIZED: authentication required"
	const never = `ErrImageNeverPull: Container image "lan/private:1" is not present with pull policy of Never`
	check("with the Secret", l.ask("a", private, corev1.PullIfNotPresent, "right"), id, private+" right")
	check("once more", l.ask("a", private, corev1.PullIfNotPresent, "right"), id)
	check("without it", l.ask("b", private, corev1.PullIfNotPresent), refused, private+" ")
	check("with another one", l.ask("b", private, corev1.PullIfNotPresent, "wrong"), refused, private+" wrong")
	check("without it, and never pulled", l.ask("b", private, corev1.PullNever), never)
	check("with one of the same content", l.ask("c", private, corev1.PullNever, "same"), id)
	l = newPullLab(dir, service) // a restart
	check("after a restart, without it", l.ask("b", private, corev1.PullIfNotPresent), refused, private+" ")
	check("after a restart, with it", l.ask("a", private, corev1.PullNever, "right"), id)
	check("anonymously", l.ask("a", public, corev1.PullIfNotPresent), "sha256:"+public, public+" ")
	check("anonymously, for others", l.ask("b", public, corev1.PullNever), "sha256:"+public)
	service.here["lan/private-2:1"] = true
	check("fetched by hand", l.ask("b", "lan/private-2:1", corev1.PullNever), "sha256:lan/private-2:1")
	service.here["lan/private-3:1"], service.imported["lan/private-3:1"] = true, true
	check("imported, with a Secret", l.ask("a", "lan/private-3:1", corev1.PullAlways, "right"), "sha256:lan/private-3:1", "lan/private-3:1 right")
	check("imported, without", l.ask("b", "lan/private-3:1", corev1.PullNever), "sha256:lan/private-3:1")

	// A crash during a pull: the image came with the Secret, and nobody knows.
	if _, err := l.access.begin(context.Background(), "lan/private-4:1"); err != nil {
		t.Fatal(err)
	}
	service.here["lan/private-4:1"] = true
	l = newPullLab(dir, service)
	check("after a crash", l.ask("b", "lan/private-4:1", corev1.PullIfNotPresent), refused, "lan/private-4:1 ")

	// The records of what was collected go, and with them the question.
	l.access.prune(context.Background(), []string{"sha256:" + public}, time.Now().Add(time.Minute))
	check("collected, and imported", l.ask("b", private, corev1.PullNever), id)
	var events []string
	for len(l.events.Events) > 0 {
		events = append(events, <-l.events.Events)
	}
	if want := `Normal Pulled Container image "lan/private:1" already present on machine and can be accessed by the pod`; !slices.Contains(events, want) {
		t.Errorf("events %q, want %q", events, want)
	}
}

// TestBackOff: 10 s, doubled up to 5 minutes, counted from the failure.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := newService()
		service.broken = true
		l := newPullLab(t.TempDir(), service)
		began, waits := time.Now(), []int{}
		for time.Since(began) < 25*time.Minute {
			before := len(service.pulls)
			got := l.ask("a", "lan/web:1", corev1.PullIfNotPresent)
			want := `ImagePullBackOff: Back-off pulling image "lan/web:1": ErrImagePull: UNAUTHORIZED: authentication required`
			if len(service.pulls) > before {
				waits = append(waits, int(time.Since(began).Seconds()))
				want = "ErrImagePull: UNAUTHORIZED: authentication required"
			}
			if got != want {
				t.Fatalf("after %v: %s, want %s", time.Since(began), got, want)
			}
			time.Sleep(time.Second)
		}
		if len(waits) < 8 {
			t.Fatalf("pulls after %v seconds", waits)
		}
		for i, want := range []int{10, 20, 40, 80, 160, 300, 300} {
			if got := waits[i+1] - waits[i]; got < want || got > want+1 {
				t.Errorf("pulls after %v seconds: wait %d is %d s, want %d", waits, i, got, want)
			}
		}
	})
}

// TestProgressIsTold: nothing of a short pull, and now and then of a long one.
func TestProgressIsTold(t *testing.T) {
	for _, c := range []struct {
		takes  time.Duration
		events []string
		waits  int
	}{
		{4 * time.Second, nil, 0},
		{48 * time.Second, []string{
			`Normal Pulling Pulling image "lan/web:1": 10% of 100.0 MB, 2.0 MB/s`,
			`Normal Pulling Pulling image "lan/web:1": 40% of 100.0 MB, 2.0 MB/s`}, 9},
		{52 * time.Second, []string{
			`Normal Pulling Pulling image "lan/web:1": 10% of 100.0 MB, 2.0 MB/s`,
			`Normal Pulling Pulling image "lan/web:1": 40% of 100.0 MB, 2.0 MB/s`,
			`Normal Pulling Pulling image "lan/web:1": all 100.0 MB are here, unpacking`}, 10},
	} {
		synctest.Test(t, func(t *testing.T) {
			service := newService()
			service.takes = c.takes
			l := newPullLab(t.TempDir(), service)
			var waits []string
			p := &corev1.Pod{}
			container := &corev1.Container{Image: "lan/web:1"}
			if id, bad := l.ensure(context.Background(), p, container, nil, func(text string) { waits = append(waits, text) }); bad != nil || id == "" {
				t.Fatal(bad)
			}
			var told []string
			for len(l.events.Events) > 0 {
				if e := <-l.events.Events; strings.HasPrefix(e, "Normal Pulling Pulling image") && strings.Contains(e, "MB") {
					told = append(told, e)
				}
			}
			if !slices.Equal(told, c.events) || len(waits) != c.waits {
				t.Errorf("a pull of %v: events %q, want %q; %d messages, want %d", c.takes, told, c.events, len(waits), c.waits)
			}
		})
	}
}
