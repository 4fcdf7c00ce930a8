package main

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	namespaces = 10
	crowds     = 10 // headless Services with 100 endpoints each
	crowdSize  = 100
	writers    = 16
)

func namespaceOf(i int) string { return fmt.Sprintf("bench-%d", i%namespaces) }

// fill makes the cluster: Services with a ClusterIP, two named ports and two endpoints each, and a few headless ones
// with a hundred. What is there already stays.
func fill(ctx context.Context, o options) error {
	client, err := o.client()
	if err != nil {
		return err
	}
	for i := range namespaces {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceOf(i)}}
		if _, err := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	jobs, failed := make(chan int), make(chan error, writers)
	for range writers {
		go func() {
			var err error
			for i := range jobs {
				if err == nil {
					err = fillOne(ctx, client, i)
				}
			}
			failed <- err
		}()
	}
	for i := range o.services + crowds {
		jobs <- i - crowds
	}
	close(jobs)
	for range writers {
		if e := <-failed; e != nil && err == nil {
			err = e
		}
	}
	return err
}

// fillOne makes the i-th Service; a negative one is a crowd.
func fillOne(ctx context.Context, client kubernetes.Interface, i int) error {
	svc, slice := plain(i), sliceOf(fmt.Sprintf("svc-%d", i), namespaceOf(i), i, 2)
	if i < 0 {
		svc, slice = crowd(-i-1), sliceOf(fmt.Sprintf("crowd-%d", -i-1), namespaceOf(-i-1), 20000+(-i-1)*crowdSize, crowdSize)
	}
	if _, err := client.CoreV1().Services(svc.Namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return fmt.Errorf("service %s: %w", svc.Name, err)
	}
	if _, err := client.DiscoveryV1().EndpointSlices(slice.Namespace).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("endpoints of %s: %w", svc.Name, err)
	}
	return nil
}

func plain(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespaceOf(i), Name: fmt.Sprintf("svc-%d", i)},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "metrics", Port: 9090, Protocol: corev1.ProtocolTCP},
		}},
	}
}

func crowd(i int) *corev1.Service {
	svc := plain(i)
	svc.Name, svc.Spec.ClusterIP = fmt.Sprintf("crowd-%d", i), corev1.ClusterIPNone
	return svc
}

// sliceOf makes the endpoints first, first+1, … of a Service.
func sliceOf(name, namespace string, first, n int) *discoveryv1.EndpointSlice {
	http, metrics, tcp, ready := "http", "metrics", corev1.ProtocolTCP, true
	p80, p90 := int32(8080), int32(9090)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &http, Port: &p80, Protocol: &tcp}, {Name: &metrics, Port: &p90, Protocol: &tcp}},
	}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 244, byte((first*2 + i) >> 8), byte(first*2 + i)})
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	return s
}

// questions writes the files that dnsperf reads, a name and a type per line; every Service comes up once.
func questions(_ context.Context, o options) error {
	const domain = ".svc.cluster.local"
	for file, line := range map[string]func(i int) string{
		"a":        func(i int) string { return fmt.Sprintf("svc-%d.%s%s A", i, namespaceOf(i), domain) },
		"srv":      func(i int) string { return fmt.Sprintf("_http._tcp.svc-%d.%s%s SRV", i, namespaceOf(i), domain) },
		"headless": func(i int) string { return fmt.Sprintf("crowd-%d.%s%s A", i%crowds, namespaceOf(i%crowds), domain) },
		"search":   func(i int) string { return fmt.Sprintf("www-%d.example.%s%s A", i, namespaceOf(i), domain) },
		"external": func(i int) string { return fmt.Sprintf("www-%d.example A", i%1000) },
	} {
		f, err := os.Create(filepath.Join(o.dir, file))
		if err != nil {
			return err
		}
		w := bufio.NewWriter(f)
		for i := range o.services {
			// a stride that is prime to the number of Services: neighbours are not asked for one after the other
			fmt.Fprintln(w, line(i*7919%o.services))
		}
		if err := errorsOf(w.Flush(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
