package ingress

import (
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"svcplane/ingress/route"
	"svcplane/ingress/source/ingress/annotations"
)

// Classes tells whose an Ingress is.
type Classes struct {
	Lister     networkinglisters.IngressClassLister
	Controller string   // spec.Controller of our classes
	Served     []string // names that are ours, too, as long as no IngressClass has them
}

// Owner says whose an Ingress is.
type Owner int

const (
	// Nobody: it names no class that anybody has, and there is no default.
	Nobody Owner = iota
	// Ours by class, default or name.
	Ours
	// SomeoneElse is another controller.
	SomeoneElse
)

// OwnerOf says whose an Ingress is.
func (c Classes) OwnerOf(ing *networkingv1.Ingress) Owner {
	owner, _ := c.Judge(ing)
	return owner
}

// Judge says whose an Ingress is and, unless it is ours, why it is not served. The annotation was the way before
// spec.ingressClassName; the API gives it precedence where it is set.
func (c Classes) Judge(ing *networkingv1.Ingress) (Owner, route.Problem) {
	if name := ing.Annotations[annotations.ClassKey]; name != "" {
		return c.byName(name, "annotation "+annotations.ClassKey)
	}
	if name := ing.Spec.IngressClassName; name != nil {
		return c.byName(*name, "spec.ingressClassName")
	}
	return c.byDefault()
}

func (c Classes) byName(name, where string) (Owner, route.Problem) {
	class, err := c.Lister.Get(name)
	switch {
	case err == nil:
		return c.byController(class)
	case slices.Contains(c.Served, name): // a lister fails only when there is none
		return Ours, route.Problem{}
	}
	return Nobody, route.Problem{Reason: "ClassNotFound", Message: fmt.Sprintf(
		"%s is %q: there is no IngressClass of that name, and --ingress-classes does not name it, so nobody serves this Ingress; correct it, or leave it out for the default class", where, name)}
}

func (c Classes) byController(class *networkingv1.IngressClass) (Owner, route.Problem) {
	if class.Spec.Controller == c.Controller {
		return Ours, route.Problem{}
	}
	return SomeoneElse, route.Problem{Reason: "ClassOfAnother", Message: fmt.Sprintf("its class %s belongs to the controller %s", class.Name, class.Spec.Controller)}
}

// byDefault: with several default classes the API server refuses new Ingresses without one; for those that
// exist, ours counts.
func (c Classes) byDefault() (Owner, route.Problem) {
	owner, why := Nobody, route.Problem{Reason: "ClassMissing", Message: "it names no class, and no IngressClass is the default one, so nobody serves this Ingress; set spec.ingressClassName"}
	all, _ := c.Lister.List(labels.Everything()) // a lister of everything does not fail
	for _, class := range all {
		if class.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			if owner, why = c.byController(class); owner == Ours {
				return Ours, route.Problem{}
			}
		}
	}
	return owner, why
}

// Problems are what is wrong with a class of ours.
func (c Classes) Problems(class *networkingv1.IngressClass) []route.Problem {
	if class.Spec.Controller != c.Controller || class.Spec.Parameters == nil {
		return nil
	}
	p := class.Spec.Parameters
	return []route.Problem{{Reason: "ParametersIgnored", Message: fmt.Sprintf("spec.parameters names the %s %s, and this controller has no parameters: what it says has no effect; remove it", p.Kind, p.Name)}}
}
