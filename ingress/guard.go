package ingress

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// guard is a Policy in force, with what it counts and the credentials it checks. It is safe for concurrent use.
type guard struct {
	*Policy
	limit   *limiter              // nil: no limits
	users   atomic.Pointer[users] // nil: nobody can log in
	pattern *regexp.Regexp        // of the canary's header; nil: none
	quick   bool                  // the fast paths can do it
}

func newGuard(p *Policy) *guard {
	g := &guard{Policy: p, quick: p.quick()}
	if p.Limits.PerSecond > 0 || p.Limits.Concurrent > 0 {
		g.limit = newLimiter(p.Limits)
	}
	if p.Canary != nil && p.Canary.HeaderRegexp != "" {
		g.pattern = regexp.MustCompile(p.Canary.HeaderRegexp) // it was checked when it was read
	}
	return g
}

// closesHost is the guard that the policy of an object puts before routes of others; nil: none.
func (p *Policy) closesHost(of Origin) *guard {
	if p == nil || p.ClosedHost == "" {
		return nil
	}
	return newGuard(&Policy{Closed: []string{fmt.Sprintf("%s %s closes its hosts: %s", of.Kind, of.NamespacedName, p.ClosedHost)}})
}

// allows says whether the policy's ranges let a client in.
func (p *Policy) allows(client netip.Addr) bool {
	return !within(p.Deny, client) && (len(p.Allow) == 0 || within(p.Allow, client))
}

func within(ranges []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// guardSet keeps the guards of objects, so that what they count survives changes of other fields. It is not safe
// for concurrent use; the guards are.
type guardSet struct {
	get      func(types.NamespacedName) *corev1.Secret
	guards   map[types.NamespacedName]*guard
	bySecret map[types.NamespacedName]names
	problems map[types.NamespacedName]Problem // with the credentials
}

func newGuardSet(get func(types.NamespacedName) *corev1.Secret) *guardSet {
	return &guardSet{get: get, guards: map[types.NamespacedName]*guard{}, bySecret: map[types.NamespacedName]names{}, problems: map[types.NamespacedName]Problem{}}
}

// set puts the policy of an object (nil: none) into force and returns its guard.
func (s *guardSet) set(key types.NamespacedName, p *Policy) *guard {
	if old := s.guards[key]; old != nil {
		if reflect.DeepEqual(old.Policy, p) {
			return old
		}
		if old.Auth != nil {
			delete(s.bySecret[old.Auth.Secret], key)
			if len(s.bySecret[old.Auth.Secret]) == 0 {
				delete(s.bySecret, old.Auth.Secret)
			}
		}
	}
	delete(s.guards, key)
	delete(s.problems, key)
	if p == nil {
		return nil
	}
	g := newGuard(p)
	s.guards[key] = g
	if p.Auth != nil {
		if s.bySecret[p.Auth.Secret] == nil {
			s.bySecret[p.Auth.Secret] = names{}
		}
		s.bySecret[p.Auth.Secret][key] = true
		s.load(key)
	}
	return g
}

// refresh reads a Secret again and returns the objects that ask for its credentials.
func (s *guardSet) refresh(secret types.NamespacedName) names {
	for key := range s.bySecret[secret] {
		s.load(key)
	}
	return s.bySecret[secret]
}

func (s *guardSet) load(key types.NamespacedName) {
	g := s.guards[key]
	u, problem := readUsers(g.Auth.Secret, s.get(g.Auth.Secret))
	g.users.Store(u)
	s.problems[key] = problem
}
