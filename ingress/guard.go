package ingress

import "sync/atomic"

// guard is a policy in force, with what it counts and the credentials it checks. It is safe for concurrent use.
type guard struct {
	*Plan
	limit *limiter              // nil: no limits
	users atomic.Pointer[users] // nil: nobody can log in
}

func newGuard(p *Policy) *guard {
	g := &guard{}
	g.Plan = Compile(p, func(name, password string) bool { return g.users.Load().check(name, password) })
	if p.Limits.PerSecond > 0 || p.Limits.Concurrent > 0 {
		g.limit = newLimiter(p.Limits)
	}
	return g
}

// plan is that of a guard, nil if that is nil.
func (g *guard) plan() *Plan {
	if g == nil {
		return nil
	}
	return g.Plan
}
