package iptables

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"

	"svcplane/proxy"
	"svcplane/proxy/proxytest"
)

// held is what the kernel has of ours, whatever the order in which it came about.
func (r *rig) held(d *Dataplane) []state {
	r.t.Helper()
	var all []state
	for _, f := range d.families {
		have, err := f.read(r.t.Context())
		must(r.t, err)
		have.made = nil
		all = append(all, have)
	}
	return all
}

// mutation changes the API at random: Services of all types come, change and go, in any order with their slices.
type mutation struct {
	*rand.Rand
	api *fake.Clientset
	lab *proxytest.Lab
}

func (m mutation) service(name string) *corev1.Service {
	protocol := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}[m.IntN(3)]
	ip := fmt.Sprintf("10.96.%d.%d", m.IntN(2), 1+m.IntN(40))
	s := service(name, ip, protocol)
	if m.IntN(3) == 0 {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, fmt.Sprintf("fd00:96::%x", 1+m.IntN(40)))
	}
	s.Spec.Ports[0].Port = int32(80 + m.IntN(3))
	if m.IntN(2) == 0 {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "other", Protocol: corev1.ProtocolTCP, Port: int32(90 + m.IntN(3)), TargetPort: intstr.FromInt32(8080)})
	}
	s.Spec.Type = []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName}[m.IntN(4)]
	if s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.Spec.Ports[0].NodePort = int32(30000 + m.IntN(4))
		if m.IntN(2) == 0 {
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.2"}}
		s.Spec.LoadBalancerSourceRanges = [][]string{nil, {"203.0.113.0/24"}}[m.IntN(2)]
	}
	if m.IntN(4) == 0 {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	}
	if m.IntN(5) == 0 {
		s.Spec.ExternalIPs = []string{"198.51.100.1"}
	}
	if m.IntN(10) == 0 {
		s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "other"}
	}
	return s
}

func (m mutation) slice(name string) *discoveryv1.EndpointSlice {
	pods := []string{"a", "b", "c"}
	m.Shuffle(3, func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	s := slice(m.lab, name, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}[m.IntN(3)], pods[:m.IntN(4)]...)
	for i := range s.Endpoints {
		node := []string{"node", "other"}[m.IntN(2)]
		ready, terminating := m.IntN(3) > 0, m.IntN(3) == 0
		s.Endpoints[i].NodeName = &node
		s.Endpoints[i].Conditions = discoveryv1.EndpointConditions{Ready: &ready, Terminating: &terminating}
	}
	return s
}

// step makes one change; what is there already or is not there is no error.
func (m mutation) step(ctx context.Context) {
	name := fmt.Sprintf("svc%d", m.IntN(12))
	services, slices := m.api.CoreV1().Services("default"), m.api.DiscoveryV1().EndpointSlices("default")
	switch m.IntN(8) {
	case 0, 1, 2:
		s := m.service(name)
		if _, err := services.Create(ctx, s, metav1.CreateOptions{}); err != nil {
			_, _ = services.Update(ctx, s, metav1.UpdateOptions{})
		}
	case 3:
		_ = services.Delete(ctx, name, metav1.DeleteOptions{})
	case 4:
		_ = slices.Delete(ctx, name, metav1.DeleteOptions{})
	default:
		s := m.slice(name)
		if _, err := slices.Create(ctx, s, metav1.CreateOptions{}); err != nil {
			_, _ = slices.Update(ctx, s, metav1.UpdateOptions{})
		}
	}
}

// TestRandomChangesOfTheAPILeadWhereAFreshStartLeads compares the kernel after a random walk with the kernel
// after a start on the walk's end, and after everything is deleted with the kernel before anything was there.
func TestRandomChangesOfTheAPILeadWhereAFreshStartLeads(t *testing.T) {
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			lab := proxytest.NewLab(t)
			api := fake.NewClientset()
			d := open(t, lab, variant)
			r := start(t, lab, api, d, time.Hour)
			empty := r.held(d)
			m := mutation{rand.New(rand.NewPCG(uint64(len(variant)), 7)), api, lab}
			for walk := range 3 {
				for range 40 {
					m.step(t.Context())
				}
				r.settled()
				walked := r.held(d)
				r.stop()
				must(t, d.Close(t.Context()))
				d = open(t, lab, variant)
				r = start(t, lab, api, d, time.Hour)
				if fresh := r.held(d); !reflect.DeepEqual(walked, fresh) {
					t.Fatalf("after walk %d the kernel holds\n%v\nand after a fresh start\n%v", walk, walked, fresh)
				}
			}
			for i := range 12 {
				_ = api.CoreV1().Services("default").Delete(t.Context(), fmt.Sprintf("svc%d", i), metav1.DeleteOptions{})
			}
			r.settled()
			if left := r.held(d); !reflect.DeepEqual(left, empty) {
				t.Errorf("after all services are deleted the kernel holds\n%v\nand before there were any\n%v", left, empty)
			}
		})
	}
}

// settled waits until the catalog has seen all that the API holds and the kernel has it: a last Service tells.
func (r *rig) settled() {
	r.t.Helper()
	name := "zz-last"
	services := r.api.CoreV1().Services("default")
	_, err := services.Create(r.t.Context(), service(name, "10.96.9.9", corev1.ProtocolTCP), metav1.CreateOptions{})
	must(r.t, err)
	has := func() bool {
		return slices.ContainsFunc(r.Table().Frontends, func(f proxy.Frontend) bool { return f.Service.Name == name })
	}
	r.until("the last service in the table", has)
	must(r.t, services.Delete(r.t.Context(), name, metav1.DeleteOptions{}))
	r.until("the last service gone", func() bool { return !has() })
	r.until("the table in the kernel", func() bool {
		lines, err := r.Diff(r.t.Context())
		must(r.t, err)
		return len(lines) == 0 && r.agrees()
	})
}

// agrees says whether the table is what the API amounts to: slices come by a watch of their own.
func (r *rig) agrees() bool {
	list, err := r.api.DiscoveryV1().EndpointSlices("default").List(r.t.Context(), metav1.ListOptions{})
	must(r.t, err)
	services, err := r.api.CoreV1().Services("default").List(r.t.Context(), metav1.ListOptions{})
	must(r.t, err)
	known := r.Table()
	return known.Equal(proxytest.TableOf(r.lab.Node, services.Items, list.Items))
}

// TestServicesAndEndpointsInBothOrders lets either come first.
func TestServicesAndEndpointsInBothOrders(t *testing.T) {
	lab := proxytest.NewLab(t)
	r := start(t, lab, fake.NewClientset(), open(t, lab, NFT), time.Hour)
	for i, name := range []string{"service-first", "slice-first"} {
		ip := fmt.Sprintf("10.96.0.%d", 5+i)
		steps := []func(){
			func() {
				_, err := r.api.CoreV1().Services("default").Create(t.Context(), service(name, ip, corev1.ProtocolTCP), metav1.CreateOptions{})
				must(t, err)
			},
			func() {
				_, err := r.api.DiscoveryV1().EndpointSlices("default").Create(t.Context(), slice(lab, name, corev1.ProtocolTCP, "a"), metav1.CreateOptions{})
				must(t, err)
			},
		}
		if i == 1 {
			slices.Reverse(steps)
		}
		to := address(ip+":80", corev1.ProtocolTCP)
		steps[0]()
		r.until("refusal of a half", r.answers("c", to, "refused"))
		steps[1]()
		r.until("an answer of the whole", r.answers("c", to, "a"))
	}
}
