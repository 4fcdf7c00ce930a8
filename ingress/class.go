package ingress

import (
	networkingv1 "k8s.io/api/networking/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
)

// legacyClassAnnotation was the way before spec.ingressClassName; the API gives it precedence where it is set.
const legacyClassAnnotation = "kubernetes.io/ingress.class"

// classes tells whose an Ingress is.
type classes struct {
	lister     networkinglisters.IngressClassLister
	controller string // spec.controller of our classes
	legacy     string // value of the legacy annotation that means us
}

type ownership int

const (
	unclaimed   ownership = iota // names no class that exists, and there is no default
	ours                         // by class, default or annotation
	someoneElse                  // of another controller
)

func (c classes) ownerOf(ing *networkingv1.Ingress) ownership {
	if name, ok := ing.Annotations[legacyClassAnnotation]; ok {
		if name == c.legacy {
			return ours
		}
		return someoneElse
	}
	if name := ing.Spec.IngressClassName; name != nil {
		class, err := c.lister.Get(*name)
		if err != nil {
			return unclaimed // a lister fails only when there is none
		}
		return c.byController(class)
	}
	return c.byDefault()
}

func (c classes) byController(class *networkingv1.IngressClass) ownership {
	if class.Spec.Controller == c.controller {
		return ours
	}
	return someoneElse
}

// byDefault: with several default classes the API server refuses new Ingresses without one; for those that
// exist, ours counts.
func (c classes) byDefault() ownership {
	owner := unclaimed
	all, _ := c.lister.List(everything) // a lister of everything does not fail
	for _, class := range all {
		if class.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			if owner = c.byController(class); owner == ours {
				return ours
			}
		}
	}
	return owner
}
