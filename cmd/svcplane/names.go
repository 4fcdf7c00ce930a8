package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The kinds of names that commands take.
const (
	kindNamespaces = "namespaces"
	kindServices   = "services" // of one namespace
	kindPods       = "pods"     // of one namespace
	kindHosts      = "hosts"    // of Ingresses
	kindDNS        = "dns"      // of Services, in full
)

// adminNames tells the names that there are, which completion offers.
func (h *house) adminNames() {
	h.admin.handle("GET /names/{kind}", func(r *http.Request) (any, error) {
		return h.names(r.Context(), r.PathValue("kind"), r.URL.Query().Get("namespace"))
	})
}

// names are those of a kind, sorted, each once; the kinds that are of a namespace are of this one.
func (h *house) names(ctx context.Context, kind, namespace string) ([]string, error) {
	names := []string{}
	all, core := metav1.ListOptions{}, h.client.CoreV1()
	switch kind {
	case kindNamespaces:
		list, err := core.Namespaces().List(ctx, all)
		if err != nil {
			return nil, fmt.Errorf("listing the namespaces: %w", err)
		}
		for _, n := range list.Items {
			names = append(names, n.Name)
		}
	case kindServices:
		for _, key := range h.services(ctx) {
			if key.Namespace == namespace {
				names = append(names, key.Name)
			}
		}
	case kindDNS:
		for _, key := range h.services(ctx) {
			names = append(names, key.Name+"."+key.Namespace+".svc."+h.cfg.Domain)
		}
	case kindPods:
		list, err := core.Pods(namespace).List(ctx, all)
		if err != nil {
			return nil, fmt.Errorf("listing the pods of namespace %s: %w", namespace, err)
		}
		for _, p := range list.Items {
			names = append(names, p.Name)
		}
	case kindHosts:
		list, err := h.client.NetworkingV1().Ingresses("").List(ctx, all)
		if err != nil {
			return nil, fmt.Errorf("listing the Ingresses: %w", err)
		}
		for _, i := range list.Items {
			for _, rule := range i.Spec.Rules {
				if rule.Host != "" {
					names = append(names, rule.Host)
				}
			}
		}
	default:
		return nil, calledWrongly(fmt.Errorf("there are no names of kind %q", kind))
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
