package route

import (
	"cmp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Object names an object of the API. Everything that is known of an object is kept under it.
type Object struct {
	Kind string // "Ingress"
	types.NamespacedName
}

// Origin is the object that a Route came from. Older objects win conflicts.
type Origin struct {
	Object
	Created time.Time
}

// Compare puts the older first, and those of the same second in the order of their names.
func (o Origin) Compare(p Origin) int {
	return cmp.Or(o.Created.Compare(p.Created), strings.Compare(o.Namespace, p.Namespace), strings.Compare(o.Name, p.Name), strings.Compare(o.Kind, p.Kind))
}

// Problem is what keeps a part of an object from being served: the reason and message of an Event on it.
type Problem struct {
	Reason  string // CamelCase
	Message string // what, where, how to mend
}
