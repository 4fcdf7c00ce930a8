package binder

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/listeners"
)

// change alters a node or a pod of a test.
type (
	nodeChange func(*corev1.Node)
	podChange  func(*corev1.Pod)
)

func node(name string, changes ...nodeChange) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, "zone": "z1"}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("3"),
		}},
	}
	for _, change := range changes {
		change(n)
	}
	return n
}

func pod(name string, changes ...podChange) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func taint(effect corev1.TaintEffect) nodeChange {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "dedicated", Value: "db", Effect: effect})
	}
}

func labelled(key, value string) nodeChange {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func tolerating(key string) podChange {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
}

func app(name string) podChange { return func(p *corev1.Pod) { p.Labels["app"] = name } }

func in(namespace string) podChange { return func(p *corev1.Pod) { p.Namespace = namespace } }

func wants(cpu, memory string) podChange {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
}

func hostPortOf(ip string, port int32, protocol corev1.Protocol) podChange {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: port, HostPort: port, HostIP: ip, Protocol: protocol}}
	}
}

func selecting(key, value string) podChange {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

func nodeAffinity(key string, values ...string) podChange {
	return func(p *corev1.Pod) {
		affinity(p).NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values},
			}}},
		}}
	}
}

func affinity(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	return p.Spec.Affinity
}

func podTerm(app, key string) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, TopologyKey: key}
}

func near(app, key string) podChange {
	return func(p *corev1.Pod) {
		affinity(p).PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{podTerm(app, key)}}
	}
}

func apart(app, key string, changes ...func(*corev1.PodAffinityTerm)) podChange {
	return func(p *corev1.Pod) {
		t := podTerm(app, key)
		for _, change := range changes {
			change(&t)
		}
		affinity(p).PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{t}}
	}
}

func spreadOver(key string, maxSkew int32, app string, when corev1.UnsatisfiableConstraintAction) podChange {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: maxSkew, TopologyKey: key, WhenUnsatisfiable: when,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
		}}
	}
}

// on is a node with the pods on it.
type on struct {
	node *corev1.Node
	pods []*corev1.Pod
}

func cluster(nodes ...on) *Cluster {
	c := NewCluster()
	c.NamespaceLabels = func(ns string) labels.Set { return labels.Set{"team": ns} }
	c.SetListeners("n", listeners.Set{
		{At: netip.MustParseAddrPort("0.0.0.0:6443"), Protocol: corev1.ProtocolTCP, Owner: "the API", Flag: "api-address"},
		{At: netip.MustParseAddrPort("10.96.0.10:5353"), Protocol: corev1.ProtocolUDP, Owner: "the cluster's DNS", Flag: "dns-ip"},
	})
	for _, n := range nodes {
		c.SetNode(n.node)
		for _, p := range n.pods {
			c.SetPod(NewPod(p), n.node.Name)
		}
	}
	return c
}

const one = "0/1 nodes are available: "

func TestPlaceOnOneNode(t *testing.T) {
	for _, tc := range []struct {
		name string
		node *corev1.Node
		pods []*corev1.Pod
		pod  *corev1.Pod
		why  string // empty: it fits
	}{
		{name: "an empty node takes a pod", node: node("n"), pod: pod("p")},
		{name: "cordoned", node: node("n", cordoned), pod: pod("p"), why: one + "1 node(s) were unschedulable."},
		{name: "cordoned, tolerated", node: node("n", cordoned), pod: pod("p", tolerating(corev1.TaintNodeUnschedulable))},
		{name: "a NoSchedule taint", node: node("n", taint(corev1.TaintEffectNoSchedule)), pod: pod("p"), why: one + "1 node(s) had untolerated taint(s)."},
		{name: "a NoExecute taint", node: node("n", taint(corev1.TaintEffectNoExecute)), pod: pod("p"), why: one + "1 node(s) had untolerated taint(s)."},
		{name: "a PreferNoSchedule taint is a wish", node: node("n", taint(corev1.TaintEffectPreferNoSchedule)), pod: pod("p")},
		{name: "a tolerated taint", node: node("n", taint(corev1.TaintEffectNoSchedule)), pod: pod("p", tolerating("dedicated"))},
		{name: "another taint tolerated", node: node("n", taint(corev1.TaintEffectNoSchedule)), pod: pod("p", tolerating("other")), why: one + "1 node(s) had untolerated taint(s)."},
		{name: "nodeSelector matches", node: node("n", labelled("disk", "ssd")), pod: pod("p", selecting("disk", "ssd"))},
		{name: "nodeSelector does not", node: node("n"), pod: pod("p", selecting("disk", "ssd")), why: one + "1 node(s) didn't match Pod's node affinity/selector."},
		{name: "node affinity matches", node: node("n", labelled("disk", "ssd")), pod: pod("p", nodeAffinity("disk", "nvme", "ssd"))},
		{name: "node affinity does not", node: node("n", labelled("disk", "hdd")), pod: pod("p", nodeAffinity("disk", "nvme", "ssd")), why: one + "1 node(s) didn't match Pod's node affinity/selector."},
		{name: "the last of cpu and memory", node: node("n"), pods: []*corev1.Pod{pod("a", wants("1500m", "512Mi"))}, pod: pod("p", wants("500m", "512Mi"))},
		{name: "too much cpu", node: node("n"), pods: []*corev1.Pod{pod("a", wants("1500m", "512Mi"))}, pod: pod("p", wants("501m", "1Mi")), why: one + "1 Insufficient cpu."},
		{name: "too much of both", node: node("n"), pod: pod("p", wants("3", "2Gi")), why: one + "1 Insufficient cpu, 1 Insufficient memory."},
		{name: "a resource that the node does not have", node: node("n"), pod: pod("p", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"example.com/gpu": resource.MustParse("1")}
		}), why: one + "1 Insufficient example.com/gpu."},
		{name: "an init container counts as far as it exceeds the others", node: node("n"), pod: pod("p", wants("1", "1Mi"), func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}}}
		})},
		{name: "full", node: node("n"), pods: []*corev1.Pod{pod("a"), pod("b"), pod("c")}, pod: pod("p"), why: one + "1 Too many pods."},
		{name: "the same host port", node: node("n"), pods: []*corev1.Pod{pod("a", hostPortOf("", 80, "TCP"))}, pod: pod("p", hostPortOf("10.0.0.1", 80, "TCP")), why: one + "1 node(s) didn't have free ports for the requested pod ports."},
		{name: "a host port of svcplane's own", node: node("n"), pod: pod("p", hostPortOf("", 6443, "TCP")),
			why: one + "1 node(s) didn't have free ports for the requested pod ports (port 6443/TCP belongs to the API (--api-address 0.0.0.0:6443))."},
		{name: "a host port of its own on another address", node: node("n"), pod: pod("p", hostPortOf("10.0.0.1", 5353, "UDP"))},
		{name: "host ports of two protocols", node: node("n"), pods: []*corev1.Pod{pod("a", hostPortOf("", 53, "TCP"))}, pod: pod("p", hostPortOf("", 53, "UDP"))},
		{name: "host ports of two addresses", node: node("n"), pods: []*corev1.Pod{pod("a", hostPortOf("10.0.0.1", 80, "TCP"))}, pod: pod("p", hostPortOf("10.0.0.2", 80, "TCP"))},
		{name: "apart from its like", node: node("n"), pods: []*corev1.Pod{pod("a", app("web"))}, pod: pod("p", app("web"), apart("web", corev1.LabelHostname)), why: one + "1 node(s) didn't match pod anti-affinity rules."},
		{name: "apart from those of another namespace by name", node: node("n"), pods: []*corev1.Pod{pod("a", app("web"), in("blue"))},
			pod: pod("p", apart("web", corev1.LabelHostname, func(t *corev1.PodAffinityTerm) { t.Namespaces = []string{"blue"} })), why: one + "1 node(s) didn't match pod anti-affinity rules."},
		{name: "apart from those of another namespace by label", node: node("n"), pods: []*corev1.Pod{pod("a", app("web"), in("blue"))},
			pod: pod("p", apart("web", corev1.LabelHostname, func(t *corev1.PodAffinityTerm) {
				t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "blue"}}
			})), why: one + "1 node(s) didn't match pod anti-affinity rules."},
		{name: "the like in another namespace does not matter", node: node("n"), pods: []*corev1.Pod{pod("a", app("web"), in("blue"))}, pod: pod("p", apart("web", corev1.LabelHostname))},
		{name: "a pod there refuses it", node: node("n"), pods: []*corev1.Pod{pod("a", apart("web", corev1.LabelHostname))}, pod: pod("p", app("web")), why: one + "1 node(s) didn't satisfy existing pods anti-affinity rules."},
		{name: "near one that is there", node: node("n"), pods: []*corev1.Pod{pod("a", app("db"))}, pod: pod("p", near("db", corev1.LabelHostname))},
		{name: "near one that is nowhere", node: node("n"), pod: pod("p", near("db", corev1.LabelHostname)), why: one + "1 node(s) didn't match pod affinity rules."},
		{name: "the first of a group that wants to be together", node: node("n"), pod: pod("p", app("db"), near("db", corev1.LabelHostname))},
		{name: "near by a label that the node lacks", node: node("n"), pod: pod("p", app("db"), near("db", "rack")), why: one + "1 node(s) didn't match pod affinity rules."},
		{name: "spread by a label that the node lacks", node: node("n"), pod: pod("p", spreadOver("rack", 1, "p", corev1.DoNotSchedule)), why: one + "1 node(s) didn't match pod topology spread constraints (missing required label)."},
		{name: "spread over one domain", node: node("n"), pods: []*corev1.Pod{pod("a", app("web")), pod("b", app("web"))}, pod: pod("p", app("web"), spreadOver("zone", 1, "web", corev1.DoNotSchedule))},
		{name: "spread over at least two domains of one", node: node("n"), pods: []*corev1.Pod{pod("a", app("web"))}, pod: pod("p", app("web"), spreadOver("zone", 1, "web", corev1.DoNotSchedule), func(p *corev1.Pod) {
			two := int32(2)
			p.Spec.TopologySpreadConstraints[0].MinDomains = &two
		}), why: one + "1 node(s) didn't match pod topology spread constraints."},
		{name: "a claim that is not there", node: node("n"), pod: pod("p", claiming("data")), why: one + `persistentvolumeclaim "data" not found.`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, why := Place(NewPod(tc.pod), cluster(on{tc.node, tc.pods}))
			if why != tc.why || (got == "n") != (tc.why == "") {
				t.Errorf("Place = %q, %q; want why %q", got, why, tc.why)
			}
		})
	}
}

func claiming(name string) podChange {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
		}}}
	}
}

func TestPlaceAmongNodes(t *testing.T) {
	for _, tc := range []struct {
		name  string
		nodes []on
		pod   *corev1.Pod
		want  string
		why   string
	}{
		{name: "no nodes", pod: pod("p"), why: "no nodes available to schedule pods"},
		{name: "the emptiest", nodes: []on{{node("a"), []*corev1.Pod{pod("x")}}, {node("b"), nil}}, pod: pod("p"), want: "b"},
		{name: "a host port that svcplane has on another node", nodes: []on{{node("n"), nil}, {node("o"), nil}}, pod: pod("p", hostPortOf("", 6443, "TCP")), want: "o"},
		{name: "by name when equal", nodes: []on{{node("b"), nil}, {node("a"), nil}}, pod: pod("p"), want: "a"},
		{name: "each with its reason", pod: pod("p", selecting("disk", "ssd")), nodes: []on{
			{node("a", cordoned), nil}, {node("b"), nil}, {node("c"), nil},
		}, why: "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector."},
		{name: "apart by zone", pod: pod("p", apart("web", "zone")), nodes: []on{
			{node("a"), []*corev1.Pod{pod("w", app("web"))}}, {node("b"), nil}, {node("c", labelled("zone", "z2")), []*corev1.Pod{pod("x"), pod("y")}},
		}, want: "c"},
		{name: "near by zone", pod: pod("p", near("web", "zone")), nodes: []on{
			{node("a", labelled("zone", "z2")), nil}, {node("b"), nil}, {node("c"), []*corev1.Pod{pod("w", app("web"))}},
		}, want: "b"},
		{name: "spread by host", pod: pod("p", app("web"), spreadOver(corev1.LabelHostname, 1, "web", corev1.DoNotSchedule)), nodes: []on{
			{node("a"), []*corev1.Pod{pod("w", app("web"))}}, {node("b"), []*corev1.Pod{pod("x"), pod("y")}},
		}, want: "b"},
		{name: "spread does not look at nodes that the pod cannot use", pod: pod("p", app("web"), selecting("disk", "ssd"), spreadOver(corev1.LabelHostname, 1, "web", corev1.DoNotSchedule)), nodes: []on{
			{node("a", labelled("disk", "ssd")), []*corev1.Pod{pod("w", app("web"))}}, {node("b"), nil},
		}, want: "a"},
		{name: "spread as a wish", pod: pod("p", app("web"), selecting("disk", "ssd"), spreadOver("rack", 1, "web", corev1.ScheduleAnyway)), nodes: []on{
			{node("a", labelled("disk", "ssd")), nil},
		}, want: "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, why := Place(NewPod(tc.pod), cluster(tc.nodes...))
			if got != tc.want || why != tc.why {
				t.Errorf("Place = %q, %q; want %q, %q", got, why, tc.want, tc.why)
			}
		})
	}
}

// What a cluster counts must be the same whichever way it came there.
func TestClusterCountsBack(t *testing.T) {
	c := cluster(on{node: node("n")})
	p := NewPod(pod("p", wants("2", "1Gi"), apart("web", corev1.LabelHostname)))
	for i := range 3 {
		c.SetPod(p, "n")
		c.SetPod(p, "n") // again: the same pod is counted once
		if _, why := Place(NewPod(pod("q", wants("1m", "0"))), c); why != one+"1 Insufficient cpu." {
			t.Fatalf("round %d, full: %q", i, why)
		}
		if !c.RemovePod(p.UID) || c.RemovePod(p.UID) {
			t.Fatalf("round %d: a pod is removed once", i)
		}
		if got, why := Place(NewPod(pod("q", wants("2", "1Gi"), app("web"))), c); got != "n" {
			t.Fatalf("round %d, empty again: %q", i, why)
		}
	}
}

func TestClusterForgetsNodes(t *testing.T) {
	c := cluster(on{node("n"), []*corev1.Pod{pod("p", wants("2", "1Gi"))}})
	c.RemoveNode("n")
	if _, why := Place(NewPod(pod("q")), c); why != "no nodes available to schedule pods" {
		t.Errorf("after the node went: %q", why)
	}
	c.SetNode(node("n"))
	if _, why := Place(NewPod(pod("q", wants("1", "0"))), c); why != one+"1 Insufficient cpu." {
		t.Errorf("the node came back with its pod: %q", why)
	}
	c.RemoveNode("n")
	c.RemovePod("p")
	if len(c.nodes) != 0 || len(c.on) != 0 {
		t.Errorf("left over: %v %v", c.nodes, c.on)
	}
}

func BenchmarkPlace(b *testing.B) {
	var pods []*corev1.Pod
	for i := range 500 {
		pods = append(pods, pod(fmt.Sprint("p", i), wants("1m", "1Ki")))
	}
	c := cluster(on{node("n", func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("1000") }), pods})
	p := pod("new", wants("1m", "1Ki"))
	for b.Loop() {
		if got, why := Place(NewPod(p), c); got == "" {
			b.Fatal(why)
		}
	}
}
