package server

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"svcplane/server/admin"
)

// names are those of a kind, sorted, each once; the kinds that are of a namespace are of this one.
func (h hints) names(ctx context.Context, kind, namespace string) ([]string, error) {
	names := []string{}
	all, core := metav1.ListOptions{}, h.client.CoreV1()
	switch kind {
	case admin.NamesOfNamespaces:
		list, err := core.Namespaces().List(ctx, all)
		if err != nil {
			return nil, fmt.Errorf("listing the namespaces: %w", err)
		}
		for _, n := range list.Items {
			names = append(names, n.Name)
		}
	case admin.NamesOfServices:
		for _, key := range h.services(ctx) {
			if key.Namespace == namespace {
				names = append(names, key.Name)
			}
		}
	case admin.NamesOfDNS:
		for _, key := range h.services(ctx) {
			names = append(names, key.Name+"."+key.Namespace+".svc."+h.domain)
		}
	case admin.NamesOfPods:
		list, err := core.Pods(namespace).List(ctx, all)
		if err != nil {
			return nil, fmt.Errorf("listing the pods of namespace %s: %w", namespace, err)
		}
		for _, p := range list.Items {
			names = append(names, p.Name)
		}
	case admin.NamesOfHosts:
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
		return nil, admin.Blame(fmt.Errorf("there are no names of kind %q", kind))
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
