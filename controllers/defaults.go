package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
	storageutil "k8s.io/kubernetes/pkg/apis/storage/util"

	"svcplane/controllers/localpath"
)

const (
	// IngressClassName is the IngressClass that svcplane's own ingress serves.
	IngressClassName = "svcplane"
	// IngressController is its spec.controller.
	IngressController = "svcplane.io/ingress"
	// DNSServiceName is the Service of the cluster DNS in kube-system, where everybody looks for it.
	DNSServiceName = "kube-dns"
	// DNSProxyName keeps kube-dns away from the Service proxy (label service.kubernetes.io/service-proxy-name): its
	// address is local to the node, and translating it would cost each query a conntrack entry.
	DNSProxyName = "svcplane-dns"

	// StorageClassName is the StorageClass of volumes on the node's disk, in the name that k3s has for its.
	StorageClassName = "local-path"

	labelServiceProxyName = "service.kubernetes.io/service-proxy-name"
	dnsPort               = 53
)

// ensureDefaults makes the objects that every svcplane has, trying until it succeeds, and then waits for ctx.
func (c *Controllers) ensureDefaults(ctx context.Context) error {
	pause := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Cap: 5 * time.Second, Steps: 100}
	for {
		err := c.ensureOnce(ctx)
		if err == nil || ctx.Err() != nil {
			break
		}
		klog.ErrorS(err, "Making the default objects failed, it will be tried again")
		select {
		case <-time.After(pause.Step()):
		case <-ctx.Done():
		}
	}
	close(c.defaults)
	<-ctx.Done()
	return nil
}

func (c *Controllers) ensureOnce(ctx context.Context) error {
	if c.cfg.IngressClass {
		_, err := c.cfg.Client.NetworkingV1().IngressClasses().Create(ctx, ingressClass(), metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("making IngressClass %s: %w", IngressClassName, err)
		}
	}
	if c.cfg.VolumesDir != "" {
		if err := c.ensureStorageClass(ctx); err != nil {
			return fmt.Errorf("making StorageClass %s: %w", StorageClassName, err)
		}
	}
	if len(c.cfg.DNSAddrs) == 0 {
		return nil
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem}}
	_, err := c.cfg.Client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making namespace %s: %w", ns.Name, err)
	}
	if err := c.ensureDNSService(ctx); err != nil {
		return fmt.Errorf("making Service %s/%s on %s: %w", ns.Name, DNSServiceName, c.cfg.DNSAddrs, err)
	}
	return c.ensureDNSEndpoints(ctx)
}

// ensureStorageClass makes the class where it is missing, as the default one unless there is a default already: of several
// the API takes the youngest, so a user's choice would be lost with each start after ours was deleted.
func (c *Controllers) ensureStorageClass(ctx context.Context) error {
	classes := c.cfg.Client.StorageV1().StorageClasses()
	list, err := classes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	isDefault := true
	for _, class := range list.Items {
		if class.Name == StorageClassName {
			return nil
		}
		isDefault = isDefault && !storageutil.IsDefaultAnnotation(class.ObjectMeta)
	}
	_, err = classes.Create(ctx, storageClass(isDefault), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// ensureDNSService replaces a Service on another address: an address cannot be changed, and a wrong one answers nobody.
func (c *Controllers) ensureDNSService(ctx context.Context) error {
	services := c.cfg.Client.CoreV1().Services(metav1.NamespaceSystem)
	wanted := c.dnsService()
	found, err := services.Get(ctx, DNSServiceName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return err
	case slices.Equal(found.Spec.ClusterIPs, wanted.Spec.ClusterIPs) && found.Labels[labelServiceProxyName] == DNSProxyName:
		return nil
	default:
		klog.InfoS("Replacing Service kube-system/kube-dns", "addresses", wanted.Spec.ClusterIPs, "were", found.Spec.ClusterIPs)
		options := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(found.UID))}
		if err := services.Delete(ctx, DNSServiceName, options); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	_, err = services.Create(ctx, wanted, metav1.CreateOptions{})
	return err
}

// ensureDNSEndpoints says where the name server really is: on the node. The mirroring controller makes the slice of it.
func (c *Controllers) ensureDNSEndpoints(ctx context.Context) error {
	if len(c.cfg.DNSAddrs) == 0 {
		return nil
	}
	addrs := c.dnsNodeAddrs()
	if len(addrs) == 0 {
		return nil
	}
	endpoints := c.cfg.Client.CoreV1().Endpoints(metav1.NamespaceSystem)
	wanted := c.dnsEndpoints(addrs)
	_, err := endpoints.Create(ctx, wanted, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = endpoints.Update(ctx, wanted, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("making the Endpoints of Service %s/%s: %w", wanted.Namespace, wanted.Name, err)
	}
	return nil
}

func ingressClass() *networkingv1.IngressClass {
	return &networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        IngressClassName,
			Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"},
		},
		Spec: networkingv1.IngressClassSpec{Controller: IngressController},
	}
}

func storageClass(isDefault bool) *storagev1.StorageClass {
	binding, reclaim := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete
	return &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name:        StorageClassName,
			Annotations: map[string]string{storageutil.IsDefaultStorageClassAnnotation: strconv.FormatBool(isDefault)},
		},
		Provisioner: localpath.ProvisionerName, ReclaimPolicy: &reclaim, VolumeBindingMode: &binding,
	}
}

func dnsMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:      DNSServiceName,
		Namespace: metav1.NamespaceSystem,
		Labels: map[string]string{
			"k8s-app":                       DNSServiceName,
			"kubernetes.io/cluster-service": "true",
			"kubernetes.io/name":            "CoreDNS",
			labelServiceProxyName:           DNSProxyName,
		},
	}
}

func (c *Controllers) dnsService() *corev1.Service {
	policy := corev1.IPFamilyPolicySingleStack
	if len(c.cfg.DNSAddrs) > 1 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	svc := &corev1.Service{
		ObjectMeta: dnsMeta(),
		Spec: corev1.ServiceSpec{
			IPFamilyPolicy: &policy,
			Ports: []corev1.ServicePort{
				{Name: "dns", Port: dnsPort, Protocol: corev1.ProtocolUDP},
				{Name: "dns-tcp", Port: dnsPort, Protocol: corev1.ProtocolTCP},
			},
		},
	}
	for _, a := range c.cfg.DNSAddrs {
		family := corev1.IPv4Protocol
		if a.Unmap().Is6() {
			family = corev1.IPv6Protocol
		}
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, family)
		svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, a.Unmap().String())
	}
	svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	return svc
}

// dnsNodeAddrs are the node's addresses of the families that the cluster DNS has, or else its first. The API allows no
// endpoints on loopback and link-local addresses, and nothing depends on these.
func (c *Controllers) dnsNodeAddrs() []netip.Addr {
	var addrs []netip.Addr
	own := *c.nodeAddrs.Load()
	for _, dns := range c.cfg.DNSAddrs {
		for _, a := range own {
			if a.Unmap().Is4() == dns.Unmap().Is4() {
				addrs = append(addrs, a.Unmap())
				break
			}
		}
	}
	if len(addrs) == 0 {
		addrs = []netip.Addr{own[0].Unmap()}
	}
	return slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a.IsLoopback() || a.IsLinkLocalUnicast() })
}

//lint:ignore SA1019 the mirroring controller makes the slices, one for each family, of Endpoints
func (c *Controllers) dnsEndpoints(addrs []netip.Addr) *corev1.Endpoints {
	var list []corev1.EndpointAddress
	for _, a := range addrs {
		list = append(list, corev1.EndpointAddress{IP: a.String(), NodeName: &c.cfg.NodeName})
	}
	//lint:ignore SA1019 as above
	return &corev1.Endpoints{
		ObjectMeta: dnsMeta(),
		//lint:ignore SA1019 as above
		Subsets: []corev1.EndpointSubset{{
			Addresses: list,
			Ports: []corev1.EndpointPort{
				{Name: "dns", Port: dnsPort, Protocol: corev1.ProtocolUDP},
				{Name: "dns-tcp", Port: dnsPort, Protocol: corev1.ProtocolTCP},
			},
		}},
	}
}
