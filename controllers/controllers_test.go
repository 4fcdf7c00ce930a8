package controllers_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/controllers"
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	_, err := controllers.New(t.Context(), controllers.Config{NodeName: "n"})
	if err == nil || !strings.Contains(err.Error(), "Broadcaster, Client, Factory, NodeAddrs, RestConfig, RootCA") {
		t.Errorf("New = %v", err)
	}
}

func TestNewAfterTheInformersStarted(t *testing.T) {
	_, err := controllers.New(t.Context(), shared.cfg)
	if err == nil || !strings.Contains(err.Error(), "started already") {
		t.Errorf("New = %v", err)
	}
}

func TestDefaultObjects(t *testing.T) {
	class, err := shared.client.NetworkingV1().IngressClasses().Get(t.Context(), "svcplane", metav1.GetOptions{})
	if err != nil || class.Spec.Controller != "svcplane.io/ingress" || class.Annotations["ingressclass.kubernetes.io/is-default-class"] != "true" {
		t.Errorf("IngressClass: %+v, %v", class, err)
	}
	dns, err := shared.client.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
	if err != nil || dns.Spec.ClusterIP != "10.96.0.10" || dns.Labels["service.kubernetes.io/service-proxy-name"] != "svcplane-dns" {
		t.Errorf("Service kube-dns: %+v, %v", dns, err)
	}
	eventually(t, func(ctx context.Context) string { // the mirroring controller
		slices, err := shared.client.DiscoveryV1().EndpointSlices("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=kube-dns"})
		if err != nil || len(slices.Items) != 1 || slices.Items[0].Endpoints[0].Addresses[0] != nodeAddr {
			return fmt.Sprint("slices of kube-dns: ", slices, err)
		}
		return ""
	})
}

func TestNamespaceGetsItsObjects(t *testing.T) {
	ns := namespace(t)
	eventually(t, func(ctx context.Context) string {
		if _, err := shared.client.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err.Error()
		}
		ca, err := shared.client.CoreV1().ConfigMaps(ns).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		if err != nil || !strings.Contains(ca.Data["ca.crt"], "BEGIN CERTIFICATE") {
			return fmt.Sprint("root CA: ", ca, err)
		}
		return ""
	})
	// a claim has a finalizer, which must not keep the namespace
	_, err := shared.client.CoreV1().PersistentVolumeClaims(ns).Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.client.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string {
		if _, err := shared.client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); err == nil {
			return "the namespace is still there"
		}
		return ""
	})
}

// What admission protects by a finalizer can be deleted when nobody uses it.
func TestVolumeAttributesClassCanBeDeleted(t *testing.T) {
	classes := shared.client.StorageV1().VolumeAttributesClasses()
	_, err := classes.Create(t.Context(), &storagev1.VolumeAttributesClass{
		ObjectMeta: metav1.ObjectMeta{Name: "gold"}, DriverName: "driver.example.com", Parameters: map[string]string{"iops": "1"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := classes.Delete(t.Context(), "gold", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string {
		if _, err := classes.Get(ctx, "gold", metav1.GetOptions{}); err == nil {
			return "the class is still there"
		}
		return ""
	})
}

func template(app string, changes ...func(*corev1.PodSpec)) corev1.PodTemplateSpec {
	t := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "c", Image: "svcplane/echo", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		}}},
	}
	for _, change := range changes {
		change(&t.Spec)
	}
	return t
}

func deploy(t *testing.T, ns, name string, replicas int32) *appsv1.Deployment {
	t.Helper()
	d, err := shared.client.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}, Template: template(name),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// boundPods lists those of a namespace that have a node.
func boundPods(ctx context.Context, ns string) (bound []corev1.Pod, all int) {
	pods, err := shared.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, -1
	}
	for _, p := range pods.Items {
		if p.Spec.NodeName == nodeName {
			bound = append(bound, p)
		}
	}
	return bound, len(pods.Items)
}

// A Deployment becomes pods on the node, those become endpoints once they say they are ready, and when it goes they go.
func TestDeploymentToEndpointsAndBack(t *testing.T) {
	ns := namespace(t)
	deploy(t, ns, "toad", 3)
	_, err := shared.client.CoreV1().Services(ns).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "toad"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "toad"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var pods []corev1.Pod
	eventually(t, func(ctx context.Context) string {
		if pods, _ = boundPods(ctx, ns); len(pods) != 3 {
			return fmt.Sprintf("%d pods bound, want 3", len(pods))
		}
		return ""
	})
	for i, p := range pods {
		ready := fmt.Sprintf(`{"status":{"phase":"Running","podIP":"10.244.0.%[1]d","podIPs":[{"ip":"10.244.0.%[1]d"}],"conditions":[{"type":"Ready","status":"True"}]}}`, i+10)
		if _, err := shared.client.CoreV1().Pods(ns).Patch(t.Context(), p.Name, types.StrategicMergePatchType, []byte(ready), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func(ctx context.Context) string {
		slices, err := shared.client.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{})
		if err != nil || len(slices.Items) != 1 || len(slices.Items[0].Endpoints) != 3 {
			return fmt.Sprint("slices: ", slices, err)
		}
		endpoints, err := shared.client.CoreV1().Endpoints(ns).Get(ctx, "toad", metav1.GetOptions{})
		if err != nil || len(endpoints.Subsets) != 1 || len(endpoints.Subsets[0].Addresses) != 3 {
			return fmt.Sprint("endpoints: ", endpoints, err)
		}
		return ""
	})
	if err := shared.client.AppsV1().Deployments(ns).Delete(t.Context(), "toad", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string { // the garbage collector, down two levels of owners
		pods, err := shared.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error()
		}
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil {
				return "pod " + p.Name + " is not being deleted"
			}
		}
		return ""
	})
}

func TestBinderExplainsAndRetries(t *testing.T) {
	ns := namespace(t)
	pods := shared.client.CoreV1().Pods(ns)
	eventually(t, func(ctx context.Context) string { // pods need the default service account
		spec := template("p", func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": ns} })
		_, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: spec.Spec}, metav1.CreateOptions{})
		if err != nil {
			return err.Error()
		}
		return ""
	})
	const why = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
	eventually(t, func(ctx context.Context) string {
		p, err := pods.Get(ctx, "p", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == "Unschedulable" && c.Message == why {
				return ""
			}
		}
		return fmt.Sprint("conditions: ", p.Status.Conditions)
	})
	hasEvent(t, ns, "FailedScheduling", why)

	label := fmt.Appendf(nil, `{"metadata":{"labels":{"disk":%q}}}`, ns)
	if _, err := shared.client.CoreV1().Nodes().Patch(t.Context(), nodeName, types.StrategicMergePatchType, label, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string {
		if bound, _ := boundPods(ctx, ns); len(bound) != 1 {
			return "the pod is not bound although the node matches now"
		}
		return ""
	})
	hasEvent(t, ns, "Scheduled", "Successfully assigned "+ns+"/p to "+nodeName)
}

func hasEvent(t *testing.T, ns, reason, message string) {
	t.Helper()
	eventually(t, func(ctx context.Context) string {
		events, err := shared.client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err.Error()
		}
		for _, e := range events.Items {
			if e.Reason == reason && strings.Contains(e.Message, message) {
				return ""
			}
		}
		return fmt.Sprintf("no event %s with %q among %d", reason, message, len(events.Items))
	})
}

// The gap between a pod and its binding is what every start of a pod pays.
func TestBinderIsQuick(t *testing.T) {
	ns := namespace(t)
	begin := time.Now()
	deploy(t, ns, "many", 100)
	eventually(t, func(ctx context.Context) string {
		if bound, _ := boundPods(ctx, ns); len(bound) != 100 {
			return fmt.Sprintf("%d pods bound, want 100", len(bound))
		}
		return ""
	})
	t.Logf("100 pods made and bound in %s; controllers were ready %s after the API; %s",
		time.Since(begin).Round(time.Millisecond), shared.tookReady.Round(time.Millisecond), shared.ctrl.Figure())
}

func TestQuotaIsCounted(t *testing.T) {
	ns := namespace(t)
	eventually(t, func(ctx context.Context) string { // counted are what is there and what goes; admission counts what comes
		if _, err := shared.client.CoreV1().ConfigMaps(ns).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{}); err != nil {
			return err.Error()
		}
		return ""
	})
	_, err := shared.client.CoreV1().ResourceQuotas(ns).Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "q"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
			corev1.ResourceServices: resource.MustParse("5"), "count/configmaps": resource.MustParse("9"), "count/leases.coordination.k8s.io": resource.MustParse("9"),
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	used := func(want int64) {
		t.Helper()
		eventually(t, func(ctx context.Context) string {
			q, err := shared.client.CoreV1().ResourceQuotas(ns).Get(ctx, "q", metav1.GetOptions{})
			if err != nil {
				return err.Error()
			}
			maps := q.Status.Used["count/configmaps"]
			if len(q.Status.Used) != 3 || maps.Value() != want {
				return fmt.Sprintf("used: %d config maps, want %d; %d resources", maps.Value(), want, len(q.Status.Used))
			}
			return ""
		})
	}
	used(1)
	extra := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "extra"}}
	if _, err := shared.client.CoreV1().ConfigMaps(ns).Create(t.Context(), extra, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	used(2)
	if err := shared.client.CoreV1().ConfigMaps(ns).Delete(t.Context(), "extra", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	used(1)
}

func TestLoadBalancerOnTheRealAPI(t *testing.T) {
	ns := namespace(t)
	services := shared.client.CoreV1().Services(ns)
	for name, port := range map[string]int32{"good": 7080, "reserved": 80} {
		_, err := services.Create(t.Context(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "x"}, Ports: []corev1.ServicePort{{Port: port}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	addresses := func(ctx context.Context, name string) string {
		svc, err := services.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(svc.Status.LoadBalancer.Ingress)
	}
	eventually(t, func(ctx context.Context) string {
		if got := addresses(ctx, "good"); !strings.Contains(got, nodeAddr) {
			return "good has " + got
		}
		return ""
	})
	hasEvent(t, ns, "LoadBalancerAddressNotAvailable", "port 80/TCP of "+nodeAddr+" belongs to the ingress (--ingress-http 0.0.0.0:80)")
	if got := addresses(t.Context(), "reserved"); got != "[]" {
		t.Errorf("reserved has %s", got)
	}
	patch := []byte(`{"spec":{"type":"ClusterIP"}}`)
	if _, err := services.Patch(t.Context(), "good", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string {
		if got := addresses(ctx, "good"); got != "[]" {
			return "as a ClusterIP Service it still has " + got
		}
		return ""
	})
}

func TestServiceAccountTokenSecretIsFilled(t *testing.T) {
	ns := namespace(t)
	secrets := shared.client.CoreV1().Secrets(ns)
	eventually(t, func(ctx context.Context) string {
		if _, err := shared.client.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err.Error()
		}
		return ""
	})
	_, err := secrets.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "token", Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}},
		Type:       corev1.SecretTypeServiceAccountToken,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) string {
		s, err := secrets.Get(ctx, "token", metav1.GetOptions{})
		if err != nil || len(s.Data[corev1.ServiceAccountTokenKey]) == 0 {
			return fmt.Sprint("the secret has no token: ", err)
		}
		return ""
	})
}
