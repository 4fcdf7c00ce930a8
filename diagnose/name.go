package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Name explains a DNS name that does not exist by the Services that do: name as it was asked for, the namespace of the
// asker (empty: it is no pod, and has no search path), the cluster's domain. No sentence if nothing resembles it.
func Name(name, namespace, domain string, services []types.NamespacedName) []string {
	service, in, ok := serviceIn(name, namespace, domain)
	if !ok {
		return nil
	}
	return meant(types.NamespacedName{Namespace: in, Name: service}, services, func(s types.NamespacedName) string {
		switch namespace {
		case "":
			return s.Name + "." + s.Namespace + ".svc." + strings.TrimSuffix(domain, ".")
		case s.Namespace:
			return s.Name
		}
		return s.Name + "." + s.Namespace
	})
}

// Key explains a Service that does not exist, of a command that takes [NAMESPACE/]NAME.
func Key(key types.NamespacedName, services []types.NamespacedName) []string {
	return meant(key, services, func(s types.NamespacedName) string {
		if s.Namespace == "default" && key.Namespace == "default" {
			return s.Name
		}
		return s.String()
	})
}

// meant says which Services may be meant by one that does not exist; write is how they are asked for.
func meant(key types.NamespacedName, services []types.NamespacedName, write func(types.NamespacedName) string) []string {
	var elsewhere, beside []string
	for _, s := range services {
		switch {
		case s == key:
			return nil // it is there: what it lacks is another question
		case s.Name == key.Name:
			elsewhere = append(elsewhere, s.Namespace)
		case s.Namespace == key.Namespace:
			beside = append(beside, s.Name)
		}
	}
	slices.Sort(elsewhere)
	var all []string
	for _, other := range elsewhere[:min(len(elsewhere), 3)] {
		there := write(types.NamespacedName{Namespace: other, Name: key.Name})
		all = append(all, fmt.Sprintf("service %s is in namespace %s: ask for %s", key.Name, other, there))
	}
	if name := DidYouMean(key.Name, beside); name != "" {
		all = append(all, fmt.Sprintf("did you mean %s?", write(types.NamespacedName{Namespace: key.Namespace, Name: name})))
	}
	return all
}

// serviceIn reads the Service and the namespace that a name means, in the forms that a search path completes.
func serviceIn(name, namespace, domain string) (service, in string, ok bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	name = strings.TrimSuffix(name, "."+strings.TrimSuffix(domain, "."))
	parts := strings.Split(strings.TrimSuffix(name, ".svc"), ".")
	switch {
	case parts[0] == "":
		return "", "", false
	case len(parts) == 1 && namespace != "":
		return parts[0], namespace, true
	case len(parts) >= 2:
		return parts[len(parts)-2], parts[len(parts)-1], true
	}
	return parts[0], "default", true
}
