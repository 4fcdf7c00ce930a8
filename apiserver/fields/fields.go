package fields

// Fate is what becomes of a field that somebody set.
type Fate int

const (
	Warned    Fate = iota // accepted without effect: the request that sets it is answered with a Warning
	Event                 // not carried out: an Event on the object, or on the pod that needs it, says so
	Condition             // not carried out: a condition in the object's status says so
	Rejected              // what it restricts cannot be carried out, so the pod is not run: its status and an Event say so
	Moot                  // nothing to carry out on a single Linux node, or kept for others to read
)

func (f Fate) String() string {
	return [...]string{"Warning", "Event", "condition", "pod not run", "no effect"}[f]
}

// Struct says what becomes of the fields of a Go type, wherever in a manifest it stands.
type Struct struct {
	Of       any // a value of the type
	Honoured []Honoured
	Rows     []Row
}

// Honoured are fields that are carried out.
type Honoured struct {
	By     string // who does: a package of svcplane or an upstream controller
	Fields string // their names in manifests
}

// Row says what becomes of fields that are not carried out. A row covers all that is below its fields.
type Row struct {
	Fields string // their names in manifests
	Fate   Fate
	Text   string // what that means, and what to do instead
	// If says for which values of the struct that has the field the row holds; nil: whenever the field is set. For all
	// other values the field is carried out.
	If func(owner any) bool
	// Mean describes If to people: "true", "Strict".
	Mean string
}

// when makes the If of a row.
func when[T any](holds func(*T) bool) func(any) bool {
	return func(owner any) bool {
		t, ok := owner.(*T)
		return ok && holds(t)
	}
}

// is says that a pointer points at value.
func is[T comparable](p *T, value T) bool { return p != nil && *p == value }

// structs lists the types whose fields somebody has to carry out, as they are reached from the kinds.
func structs() []Struct {
	var all []Struct
	for _, list := range [][]Struct{
		pods(), containers(), environments(), actions(), security(), profiles(), placement(),
		volumes(), projections(), claims(), storageClasses(), services(), ingresses(),
		workloads(), jobs(), autoscaling(), clusters(), classes(), metas(),
	} {
		all = append(all, list...)
	}
	return all
}
