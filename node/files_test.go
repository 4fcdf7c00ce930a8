package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestFilesOfThePod(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}
	}))
	ip := l.wantPod("web", isReady).Status.PodIP
	config := l.rt.config("app")
	if got, want := config.Annotations["io.kubernetes.container.ports"], `[{"name":"http","containerPort":8080,"protocol":"TCP"}]`; got != want {
		t.Errorf("ports are %s, want %s", got, want)
	}
	files := map[string]string{}
	for _, m := range config.Mounts {
		data, err := os.ReadFile(m.HostPath)
		if err != nil {
			t.Fatal(err)
		}
		files[m.ContainerPath] = string(data)
	}
	if !strings.Contains(files["/etc/resolv.conf"], "nameserver 10.96.0.10\n") || !strings.HasPrefix(files["/etc/resolv.conf"], "search default.svc.cluster.local svc.cluster.local cluster.local") {
		t.Errorf("resolv.conf is %q", files["/etc/resolv.conf"])
	}
	if !strings.Contains(files["/etc/hosts"], ip+"\tweb\n") || files["/etc/hostname"] != "web\n" {
		t.Errorf("hosts and hostname are %q and %q", files["/etc/hosts"], files["/etc/hostname"])
	}
	if _, ok := files["/dev/termination-log"]; !ok {
		t.Error("the termination message file is not mounted")
	}
	l.remove("web", 1)
	l.wantGone("web")
	l.eventually("files", func() string {
		left, err := filepath.Glob(filepath.Join(l.dir, "*", "*"))
		left = slices.DeleteFunc(left, func(path string) bool { return filepath.Base(filepath.Dir(path)) == "image_manager" }) // who may use which image
		if err != nil || len(left) > 0 {
			return "are left: " + strings.Join(left, ", ")
		}
		return ""
	})
}

func TestFilesFollowLabels(t *testing.T) {
	l := newLab(t)
	l.start()
	l.create(pod("web", func(p *corev1.Pod) {
		p.Labels = map[string]string{"colour": "green"}
		p.Spec.Volumes = []corev1.Volume{{Name: "info", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			Items: []corev1.DownwardAPIVolumeFile{{Path: "colour", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['colour']"}}},
		}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "info", MountPath: "/info"}}
	}))
	p := l.wantPod("web", isReady)
	mount := l.rt.config("app").Mounts[0]
	if mount.ContainerPath != "/info" || !mount.Readonly {
		t.Fatalf("mount is %v", mount)
	}
	p.Labels["colour"] = "red"
	if _, err := l.client.CoreV1().Pods("default").Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	l.eventually("file", func() string {
		data, err := os.ReadFile(mount.HostPath + "/colour")
		if err != nil || string(data) != "red" {
			return string(data)
		}
		return ""
	})
}

func TestFilesOfForgottenPodsGo(t *testing.T) {
	l := newLab(t)
	l.create(pod("web"))
	for _, dir := range []string{"pods/long-gone/volumes/v", "logs/default_old_long-gone/app", "pods/uid-web/etc", "logs/default_web_uid-web/app"} {
		if err := os.MkdirAll(filepath.Join(l.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l.start()
	l.wantPod("web", isReady)
	for dir, there := range map[string]bool{"pods/long-gone": false, "logs/default_old_long-gone": false, "pods/uid-web": true, "logs/default_web_uid-web": true} {
		if _, err := os.Stat(filepath.Join(l.dir, dir)); (err == nil) != there {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestImageVolumesAreTheRuntimes(t *testing.T) {
	l := newLab(t)
	l.start()
	volume := func(reference string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "files", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: reference, PullPolicy: corev1.PullIfNotPresent}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "files", MountPath: "/files", SubPath: "part"}}
		}
	}
	l.create(pod("web", volume("app:1")))
	l.wantPod("web", isReady)
	found := slices.ContainsFunc(l.rt.config("app").Mounts, func(m *runtimeapi.Mount) bool {
		return m.ContainerPath == "/files" && m.Image.GetImage() == "sha256:app:1" && m.ImageSubPath == "part" && m.Readonly && m.HostPath == ""
	})
	if !found {
		t.Errorf("the mounts are %v", l.rt.config("app").Mounts)
	}
	l.create(pod("none", volume("missing:1")))
	p := l.wantPod("none", waitingFor("CreateContainerConfigError"))
	if got := p.Status.ContainerStatuses[0].State.Waiting.Message; !strings.Contains(got, `volume "files": ErrImagePull`) && !strings.Contains(got, `volume "files": ImagePullBackOff`) {
		t.Errorf("the message is %q", got)
	}
}
