package ingress

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/ingress/route"
	"svcplane/ingress/serve"
)

// guardSet keeps the policies of objects in force, so that what they count survives changes of other fields. It is not safe
// for concurrent use; the guards are.
type guardSet struct {
	get      func(types.NamespacedName) *corev1.Secret
	byObject map[route.Object]map[*route.Policy]*serve.Guard
	byPolicy map[*route.Policy]*serve.Guard
	bySecret map[types.NamespacedName]map[route.Object]bool
	problems map[*serve.Guard]route.Problem // with the credentials
}

func newGuardSet(get func(types.NamespacedName) *corev1.Secret) *guardSet {
	return &guardSet{get: get, byObject: map[route.Object]map[*route.Policy]*serve.Guard{}, byPolicy: map[*route.Policy]*serve.Guard{},
		bySecret: map[types.NamespacedName]map[route.Object]bool{}, problems: map[*serve.Guard]route.Problem{}}
}

// of is the guard of a policy; nil if that is nil.
func (s *guardSet) of(p *route.Policy) *serve.Guard { return s.byPolicy[p] }

// set puts the policies of an object (nil: gone) into force.
func (s *guardSet) set(key route.Object, t *route.Translation) {
	old := s.byObject[key]
	s.forget(key)
	now := map[*route.Policy]*serve.Guard{}
	for _, p := range policiesOf(t) {
		if p == nil || now[p] != nil {
			continue
		}
		g := guardLike(old, p)
		if g == nil {
			g = serve.NewGuard(p)
		}
		now[p], s.byPolicy[p] = g, g
		if p.Auth != nil {
			if s.bySecret[p.Auth.Secret] == nil {
				s.bySecret[p.Auth.Secret] = map[route.Object]bool{}
			}
			s.bySecret[p.Auth.Secret][key] = true
			s.load(g)
		}
	}
	if len(now) > 0 {
		s.byObject[key] = now
	}
}

func policiesOf(t *route.Translation) []*route.Policy {
	if t == nil {
		return nil
	}
	all := []*route.Policy{t.Closes}
	for _, r := range t.Routes {
		all = append(all, r.Policy)
	}
	return all
}

// guardLike is the guard of a policy that says the same; nil: none does.
func guardLike(guards map[*route.Policy]*serve.Guard, p *route.Policy) *serve.Guard {
	for other, g := range guards {
		if reflect.DeepEqual(other, p) {
			return g
		}
	}
	return nil
}

func (s *guardSet) forget(key route.Object) {
	for p, g := range s.byObject[key] {
		delete(s.byPolicy, p)
		delete(s.problems, g)
		if p.Auth == nil {
			continue
		}
		delete(s.bySecret[p.Auth.Secret], key)
		if len(s.bySecret[p.Auth.Secret]) == 0 {
			delete(s.bySecret, p.Auth.Secret)
		}
	}
	delete(s.byObject, key)
}

// refresh reads a Secret again and returns the objects that ask for its credentials.
func (s *guardSet) refresh(secret types.NamespacedName) map[route.Object]bool {
	for key := range s.bySecret[secret] {
		for p, g := range s.byObject[key] {
			if p.Auth != nil && p.Auth.Secret == secret {
				s.load(g)
			}
		}
	}
	return s.bySecret[secret]
}

func (s *guardSet) load(g *serve.Guard) {
	s.problems[g] = g.LoadUsers(s.get(g.Auth.Secret))
}

// problemsOf lists what is wrong with the credentials that an object asks for.
func (s *guardSet) problemsOf(key route.Object) []route.Problem {
	var all []route.Problem
	for _, g := range s.byObject[key] {
		if p := s.problems[g]; p != (route.Problem{}) {
			all = append(all, p)
		}
	}
	return all
}
