package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Name explains a DNS name that does not exist by the Services that do: name as it was asked for, the namespace of the
// asker (empty: it is no pod), the cluster's domain. No sentence if nothing resembles it.
func Name(name, namespace, domain string, services []types.NamespacedName) []string {
	service, in, ok := serviceIn(name, namespace, domain)
	if !ok {
		return nil
	}
	var elsewhere, alike []string
	for _, s := range services {
		switch {
		case s.Name == service && s.Namespace == in:
			return nil // it is there: the name server says what it lacks
		case s.Name == service:
			elsewhere = append(elsewhere, s.Namespace)
		case s.Namespace == in && distance(s.Name, service) <= 1+len(service)/8:
			alike = append(alike, s.Name)
		}
	}
	slices.Sort(elsewhere)
	slices.Sort(alike)
	var all []string
	for _, other := range elsewhere[:min(len(elsewhere), 3)] {
		all = append(all, fmt.Sprintf("service %s is in namespace %s: ask for %s.%s", service, other, service, other))
	}
	for _, other := range alike[:min(len(alike), 3)] {
		all = append(all, fmt.Sprintf("namespace %s has a service %s", in, other))
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

// distance is the number of letters to insert, remove, exchange or swap with their neighbour to make b of a (the optimal
// string alignment distance).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
