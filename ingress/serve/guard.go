package serve

import (
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"svcplane/ingress/route"
)

// Guard is a policy in force, with what it counts and the credentials it checks. It is safe for concurrent use.
type Guard struct {
	*route.Plan
	limit *limiter              // nil: no limits
	users atomic.Pointer[users] // nil: nobody can log in
}

// NewGuard puts a policy into force. Nobody can log in before LoadUsers.
func NewGuard(p *route.Policy) *Guard {
	g := &Guard{}
	g.Plan = route.Compile(p, func(name, password string) bool { return g.users.Load().check(name, password) })
	if p.Limits.PerSecond > 0 || p.Limits.Concurrent > 0 {
		g.limit = newLimiter(p.Limits)
	}
	return g
}

// LoadUsers reads the credentials that the policy's Auth asks for, and says what is wrong with them. secret is nil if there is
// none.
func (g *Guard) LoadUsers(secret *corev1.Secret) route.Problem {
	u, problem := readUsers(g.Auth.Secret, secret)
	g.users.Store(u)
	return problem
}

// plan is that of a guard, nil if that is nil.
func (g *Guard) plan() *route.Plan {
	if g == nil {
		return nil
	}
	return g.Plan
}
