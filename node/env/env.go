package env

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/kubelet/envvars"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"

	"svcplane/node/downward"
)

// Var is one variable.
type Var struct{ Name, Value string }

// Objects reads the ConfigMaps and Secrets that a pod refers to; an absent one is a NotFound API error.
type Objects interface {
	ConfigMap(ctx context.Context, key types.NamespacedName) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, key types.NamespacedName) (*corev1.Secret, error)
}

// ForServices gives the variables that describe Services to a pod in namespace: those of master, the API's
// own Service, always; those of the pod's namespace when links is set (spec.enableServiceLinks). The names
// are those of "Discovering services" in the Kubernetes documentation, with the docker-link variables.
func ForServices(services []*corev1.Service, master types.NamespacedName, namespace string, links bool) map[string]string {
	chosen := map[string]*corev1.Service{}
	for _, svc := range services {
		if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone || len(svc.Spec.Ports) == 0 {
			continue
		}
		if svc.Namespace == master.Namespace && svc.Name == master.Name {
			if _, own := chosen[svc.Name]; !own {
				chosen[svc.Name] = svc
			}
		} else if links && svc.Namespace == namespace {
			chosen[svc.Name] = svc
		}
	}
	list := make([]*corev1.Service, 0, len(chosen))
	for _, svc := range chosen {
		list = append(list, svc)
	}
	vars := map[string]string{}
	for _, v := range envvars.FromServices(list) {
		vars[v.Name] = v.Value
	}
	return vars
}

// Build makes the environment of container c.
func Build(ctx context.Context, facts downward.Facts, c *corev1.Container, services map[string]string, objects Objects) ([]Var, error) {
	b := builder{ctx: ctx, facts: facts, c: c, objects: objects, own: map[string]string{}}
	for i := range c.EnvFrom {
		if err := b.from(&c.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	lookup := expansion.MappingFuncFor(b.own, services)
	for i := range c.Env {
		e := &c.Env[i]
		if e.Value != "" || e.ValueFrom == nil {
			b.own[e.Name] = expansion.Expand(e.Value, lookup)
			continue
		}
		value, ok, err := b.valueFrom(e.ValueFrom)
		if err != nil {
			return nil, err
		}
		if ok {
			b.own[e.Name] = value
		}
	}
	return merged(b.own, services), nil
}

func merged(own, services map[string]string) []Var {
	vars := make([]Var, 0, len(own)+len(services))
	for name, value := range own {
		vars = append(vars, Var{name, value})
	}
	for name, value := range services {
		if _, taken := own[name]; !taken {
			vars = append(vars, Var{name, value})
		}
	}
	slices.SortFunc(vars, func(a, b Var) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return vars
}

type builder struct {
	ctx     context.Context
	facts   downward.Facts
	c       *corev1.Container
	objects Objects
	own     map[string]string
}

func (b *builder) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: b.facts.Pod.Namespace, Name: name}
}

func (b *builder) from(e *corev1.EnvFromSource) error {
	switch {
	case e.ConfigMapRef != nil:
		cm, err := b.objects.ConfigMap(b.ctx, b.key(e.ConfigMapRef.Name))
		if skip, err := absent(err, e.ConfigMapRef.Optional); skip || err != nil {
			return err
		}
		for k, v := range cm.Data {
			b.own[e.Prefix+k] = v
		}
	case e.SecretRef != nil:
		s, err := b.objects.Secret(b.ctx, b.key(e.SecretRef.Name))
		if skip, err := absent(err, e.SecretRef.Optional); skip || err != nil {
			return err
		}
		for k, v := range s.Data {
			b.own[e.Prefix+k] = string(v)
		}
	}
	return nil
}

// absent turns "not found" into a skip when the reference is optional.
func absent(err error, optional *bool) (skip bool, _ error) {
	if err != nil && apierrors.IsNotFound(err) && optional != nil && *optional {
		return true, nil
	}
	return false, err
}

// valueFrom resolves one source; ok is false when it is optional and not there.
func (b *builder) valueFrom(src *corev1.EnvVarSource) (value string, ok bool, err error) {
	switch {
	case src.FieldRef != nil:
		value, err = b.facts.Field(src.FieldRef)
		return value, true, err
	case src.ResourceFieldRef != nil:
		value, err = b.facts.Resource(src.ResourceFieldRef, b.c)
		return value, true, err
	case src.ConfigMapKeyRef != nil:
		return b.configMapKey(src.ConfigMapKeyRef)
	case src.SecretKeyRef != nil:
		return b.secretKey(src.SecretKeyRef)
	}
	return "", false, fmt.Errorf("container %s: an environment variable has a valueFrom that this node does not know; use fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef", b.c.Name)
}

func (b *builder) configMapKey(ref *corev1.ConfigMapKeySelector) (string, bool, error) {
	cm, err := b.objects.ConfigMap(b.ctx, b.key(ref.Name))
	if skip, err := absent(err, ref.Optional); skip || err != nil {
		return "", false, err
	}
	value, ok := cm.Data[ref.Key]
	if !ok && (ref.Optional == nil || !*ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v", ref.Key, b.key(ref.Name))
	}
	return value, ok, nil
}

func (b *builder) secretKey(ref *corev1.SecretKeySelector) (string, bool, error) {
	s, err := b.objects.Secret(b.ctx, b.key(ref.Name))
	if skip, err := absent(err, ref.Optional); skip || err != nil {
		return "", false, err
	}
	value, ok := s.Data[ref.Key]
	if !ok && (ref.Optional == nil || !*ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %v in Secret %v", ref.Key, b.key(ref.Name))
	}
	return string(value), ok, nil
}

// Expand replaces $(NAME) in each word; an unknown name stays as it is, $$(NAME) escapes.
func Expand(words []string, vars []Var) []string {
	lookup := expansion.MappingFuncFor(asMap(vars))
	var out []string
	for _, w := range words {
		out = append(out, expansion.Expand(w, lookup))
	}
	return out
}

// ExpandStrict is Expand of one text in which every name must have a value, as subPathExpr asks.
func ExpandStrict(text string, vars []Var) (string, error) {
	known := asMap(vars)
	var missing []string
	out := expansion.Expand(text, func(name string) string {
		if known[name] == "" {
			missing = append(missing, name)
		}
		return known[name]
	})
	if missing != nil {
		return "", fmt.Errorf("expanding %q: missing value for %v", text, missing)
	}
	return out, nil
}

// Static turns the literal variables of a container into a list, for the commands of probes: they see
// nothing else (Kubernetes runs them without the container's own environment).
func Static(list []corev1.EnvVar) []Var {
	vars := make([]Var, 0, len(list))
	for _, e := range list {
		vars = append(vars, Var{e.Name, e.Value})
	}
	return vars
}

func asMap(vars []Var) map[string]string {
	m := make(map[string]string, len(vars))
	for _, v := range vars {
		m[v.Name] = v.Value
	}
	return m
}
