// Package downward answers what a pod may ask about itself: fields of the pod (fieldRef) and the resources
// of its containers (resourceFieldRef), for environment variables and for files alike.
//
//	Pod, addresses of pod and node ──▶ Facts ──Field(fieldRef)────────────▶ string
//	node allocatable ────────────────▶       ──Resource(resourceFieldRef)─▶ string
//
// Invariants:
//   - Facts are values: nothing here reads a clock, a file or the API.
//   - An address that is not known yet is an error, never an empty string: a container that needs its
//     address must not start without it.
package downward
