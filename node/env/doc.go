// Package env makes the environment of a container: Service variables, envFrom, env with valueFrom, and the
// expansion of $(NAME) in values, commands and arguments.
//
//	Services ──ForServices──▶ service variables ─┐
//	ConfigMap, Secret ──▶ envFrom ───────────────┼──▶ Build ──▶ []Var (sorted) ──▶ Expand(command)
//	downward.Facts ─────▶ env, valueFrom ────────┘
//
// Invariants:
//   - The same input gives the same list in the same order.
//   - env wins over envFrom, and both win over Service variables; a later envFrom wins over an earlier one.
//   - What is missing and not optional is an error that names the object and the key.
package env
