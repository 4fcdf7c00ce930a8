package ingress

import (
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"svcplane/ingress/annotations"
)

// classes tells whose an Ingress is.
type classes struct {
	lister     networkinglisters.IngressClassLister
	controller string   // spec.controller of our classes
	served     []string // names that are ours, too, as long as no IngressClass has them
}

type ownership int

const (
	unclaimed   ownership = iota // names no class that anybody has, and there is no default
	ours                         // by class, default or name
	someoneElse                  // of another controller
)

func (c classes) ownerOf(ing *networkingv1.Ingress) ownership {
	owner, _ := c.judge(ing)
	return owner
}

// judge says whose an Ingress is and, unless it is ours, why it is not served. The annotation was the way before
// spec.ingressClassName; the API gives it precedence where it is set.
func (c classes) judge(ing *networkingv1.Ingress) (ownership, Problem) {
	if name := ing.Annotations[annotations.ClassKey]; name != "" {
		return c.byName(name, "annotation "+annotations.ClassKey)
	}
	if name := ing.Spec.IngressClassName; name != nil {
		return c.byName(*name, "spec.ingressClassName")
	}
	return c.byDefault()
}

func (c classes) byName(name, where string) (ownership, Problem) {
	class, err := c.lister.Get(name)
	switch {
	case err == nil:
		return c.byController(class)
	case slices.Contains(c.served, name): // a lister fails only when there is none
		return ours, Problem{}
	}
	return unclaimed, Problem{"ClassNotFound", fmt.Sprintf(
		"%s is %q: there is no IngressClass of that name, and --ingress-classes does not name it, so nobody serves this Ingress; correct it, or leave it out for the default class", where, name)}
}

func (c classes) byController(class *networkingv1.IngressClass) (ownership, Problem) {
	if class.Spec.Controller == c.controller {
		return ours, Problem{}
	}
	return someoneElse, Problem{"ClassOfAnother", fmt.Sprintf("its class %s belongs to the controller %s", class.Name, class.Spec.Controller)}
}

// byDefault: with several default classes the API server refuses new Ingresses without one; for those that
// exist, ours counts.
func (c classes) byDefault() (ownership, Problem) {
	owner, why := unclaimed, Problem{"ClassMissing", "it names no class, and no IngressClass is the default one, so nobody serves this Ingress; set spec.ingressClassName"}
	all, _ := c.lister.List(everything) // a lister of everything does not fail
	for _, class := range all {
		if class.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			if owner, why = c.byController(class); owner == ours {
				return ours, Problem{}
			}
		}
	}
	return owner, why
}

// problems are what is wrong with a class of ours.
func (c classes) problems(class *networkingv1.IngressClass) []Problem {
	if class.Spec.Controller != c.controller || class.Spec.Parameters == nil {
		return nil
	}
	p := class.Spec.Parameters
	return []Problem{{"ParametersIgnored", fmt.Sprintf("spec.parameters names the %s %s, and this controller has no parameters: what it says has no effect; remove it", p.Kind, p.Name)}}
}

// classChanged has every Ingress looked at again: it may be whose it was not.
func (c *controller) classChanged(key types.NamespacedName) {
	c.markAll()
	c.dirty.markIngress(key) // told about like an Ingress; a class has no namespace
}
