package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	namespace = "default"
	writers   = 16 // requests to the API at the same time
	patience  = 60 * time.Second
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "of the server")
	ingress := flag.String("ingress", "127.0.0.1:80", "where the ingress listens for HTTP")
	endpoint := flag.String("endpoint", "192.0.2.1:9100", "where to be an endpoint; not loopback, which no EndpointSlice may name")
	n := flag.Int("n", 1000, "how many Ingresses")
	changes := flag.Int("changes", 100, "how many changes of one of them")
	flag.Parse()
	if err := run(*kubeconfig, *ingress, *endpoint, *n, *changes); err != nil {
		fmt.Fprintln(os.Stderr, "changes:", err)
		os.Exit(1)
	}
}

func run(kubeconfig, ingress, endpoint string, n, changes int) error {
	at, err := netip.ParseAddrPort(endpoint)
	if err != nil {
		return err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS, cfg.ContentType = -1, "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", endpoint)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	m := &meter{client: client, ingress: ingress, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}}}
	if err := errors.Join(m.service(at), m.each(n, m.create)); err != nil {
		return err
	}
	defer m.remove(n)
	if err := m.bulk(n); err != nil {
		return err
	}
	return m.single(changes)
}

type meter struct {
	client  kubernetes.Interface
	ingress string
	http    *http.Client
	began   time.Time // of the first create
	created time.Time // reply to the last one
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: namespace, Name: name} }

// service is what all Ingresses send to.
func (m *meter) service(at netip.AddrPort) error {
	http, ready, port := "http", true, int32(at.Port())
	svc := &corev1.Service{ObjectMeta: meta("bench-changes"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: http, Port: 80}}}}
	if _, err := m.client.CoreV1().Services(namespace).Create(context.Background(), svc, metav1.CreateOptions{}); err != nil {
		return err
	}
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta("bench-changes"), AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{at.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:     []discoveryv1.EndpointPort{{Name: &http, Port: &port}}}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: "bench-changes"}
	_, err := m.client.DiscoveryV1().EndpointSlices(namespace).Create(context.Background(), s, metav1.CreateOptions{})
	m.began = time.Now()
	return err
}

// each calls do with 0 to n-1, several at a time.
func (m *meter) each(n int, do func(i int) error) error {
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += writers {
				errs[w] = do(i)
			}
		})
	}
	wg.Wait()
	m.created = time.Now()
	return errors.Join(errs...)
}

func host(i int) string { return fmt.Sprintf("bench-%d.test", i) }

func (m *meter) create(i int) error {
	_, err := m.client.NetworkingV1().Ingresses(namespace).Create(context.Background(), ingressFor(i, "/"), metav1.CreateOptions{})
	return err
}

func ingressFor(i int, path string) *networkingv1.Ingress {
	prefix := networkingv1.PathTypePrefix
	backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "bench-changes", Port: networkingv1.ServiceBackendPort{Number: 80}}}
	rule := networkingv1.IngressRule{Host: host(i)}
	rule.HTTP = &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: path, PathType: &prefix, Backend: backend}}}
	return &networkingv1.Ingress{ObjectMeta: meta(fmt.Sprintf("bench-%d", i)), Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{rule}}}
}

// bulk waits until every host answers.
func (m *meter) bulk(n int) error {
	applied := m.created
	if err := m.each(n, func(i int) error { return m.served(host(i), "/", applied.Add(patience)) }); err != nil {
		return err
	}
	fmt.Printf("%d Ingresses: the API took %.2f s to create them; all were routed %.2f s after the last reply, %.2f s after the first was sent\n",
		n, applied.Sub(m.began).Seconds(), m.created.Sub(applied).Seconds(), m.created.Sub(m.began).Seconds())
	return nil
}

// single changes the path of one Ingress again and again.
func (m *meter) single(times int) error {
	var took []time.Duration
	ingresses := m.client.NetworkingV1().Ingresses(namespace)
	for i := range times {
		path := fmt.Sprintf("/turn-%d", i)
		if _, err := ingresses.Update(context.Background(), ingressFor(0, path), metav1.UpdateOptions{}); err != nil {
			return err
		}
		replied := time.Now()
		if err := m.served(host(0), path, replied.Add(patience)); err != nil {
			return err
		}
		took = append(took, time.Since(replied))
	}
	slices.Sort(took)
	fmt.Printf("one changed route: live after the API's reply in %.1f ms (median), %.1f ms (95 of 100)\n", ms(took[len(took)/2]), ms(took[len(took)*95/100]))
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// served asks until the answer is 200.
func (m *meter) served(host, path string, until time.Time) error {
	for time.Now().Before(until) {
		req, err := http.NewRequest(http.MethodGet, "http://"+m.ingress+path, nil)
		if err != nil {
			return err
		}
		req.Host = host
		resp, err := m.http.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode == http.StatusOK {
			return err
		}
		time.Sleep(200 * time.Microsecond) // it is asked again: a pace, not a guess
	}
	return fmt.Errorf("http://%s%s is not routed after %s", host, path, patience)
}

func (m *meter) remove(n int) {
	ctx := context.Background()
	err := m.each(n, func(i int) error {
		return m.client.NetworkingV1().Ingresses(namespace).Delete(ctx, fmt.Sprintf("bench-%d", i), metav1.DeleteOptions{})
	})
	err = errors.Join(err, m.client.DiscoveryV1().EndpointSlices(namespace).Delete(ctx, "bench-changes", metav1.DeleteOptions{}),
		m.client.CoreV1().Services(namespace).Delete(ctx, "bench-changes", metav1.DeleteOptions{}))
	if err != nil {
		fmt.Fprintln(os.Stderr, "changes: removing what was made:", err)
	}
}
