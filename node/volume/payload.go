package volume

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/node/downward"
)

// file is one file of a volume.
type file struct {
	data []byte
	mode int32
}

const defaultMode int32 = 0o644

func modeOf(mode *int32, otherwise int32) int32 {
	if mode != nil {
		return *mode
	}
	return otherwise
}

func isSet(b *bool) bool { return b != nil && *b }

// payload collects the files of a volume, by path below it.
func (m *Manager) payload(ctx context.Context, facts downward.Facts, v *corev1.Volume, out *Mounted) (map[string]file, error) {
	p := payloads{m: m, ctx: ctx, facts: facts, volume: v.Name, files: map[string]file{}, out: out}
	switch {
	case v.ConfigMap != nil:
		s := v.ConfigMap
		return p.files, p.configMap(s.Name, s.Items, modeOf(s.DefaultMode, defaultMode), isSet(s.Optional))
	case v.Secret != nil:
		s := v.Secret
		return p.files, p.secret(s.SecretName, s.Items, modeOf(s.DefaultMode, defaultMode), isSet(s.Optional))
	case v.DownwardAPI != nil:
		return p.files, p.downward(v.DownwardAPI.Items, modeOf(v.DownwardAPI.DefaultMode, defaultMode))
	}
	mode := modeOf(v.Projected.DefaultMode, defaultMode)
	for i := range v.Projected.Sources {
		if err := p.projected(&v.Projected.Sources[i], mode); err != nil {
			return nil, err
		}
	}
	return p.files, nil
}

type payloads struct {
	m      *Manager
	ctx    context.Context
	facts  downward.Facts
	volume string
	files  map[string]file
	out    *Mounted
}

func (p *payloads) projected(s *corev1.VolumeProjection, mode int32) error {
	switch {
	case s.ConfigMap != nil:
		return p.configMap(s.ConfigMap.Name, s.ConfigMap.Items, mode, isSet(s.ConfigMap.Optional))
	case s.Secret != nil:
		return p.secret(s.Secret.Name, s.Secret.Items, mode, isSet(s.Secret.Optional))
	case s.DownwardAPI != nil:
		return p.downward(s.DownwardAPI.Items, mode)
	case s.ServiceAccountToken != nil:
		return p.token(s.ServiceAccountToken, mode)
	}
	return fmt.Errorf("this node cannot project this source; use configMap, secret, downwardAPI or serviceAccountToken")
}

func (p *payloads) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: p.facts.Pod.Namespace, Name: name}
}

func (p *payloads) configMap(name string, items []corev1.KeyToPath, mode int32, optional bool) error {
	cm, err := p.m.cfg.Objects.ConfigMap(p.ctx, p.key(name))
	if err != nil {
		if apierrors.IsNotFound(err) && optional {
			return nil
		}
		return err
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return p.keys(data, items, mode, optional, "configmap")
}

func (p *payloads) secret(name string, items []corev1.KeyToPath, mode int32, optional bool) error {
	s, err := p.m.cfg.Objects.Secret(p.ctx, p.key(name))
	if err != nil {
		if apierrors.IsNotFound(err) && optional {
			return nil
		}
		return err
	}
	return p.keys(s.Data, items, mode, optional, "secret")
}

// keys adds every key, or the items that are asked for.
func (p *payloads) keys(data map[string][]byte, items []corev1.KeyToPath, mode int32, optional bool, kind string) error {
	if len(items) == 0 {
		for k, v := range data {
			if err := p.add(k, file{v, mode}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf("%s references non-existent %s key: %s", kind, kind, item.Key)
		}
		if err := p.add(item.Path, file{v, modeOf(item.Mode, mode)}); err != nil {
			return err
		}
	}
	return nil
}

func (p *payloads) add(path string, f file) error {
	if !filepath.IsLocal(path) {
		return fmt.Errorf("path %q must be relative and stay below the volume", path)
	}
	p.files[filepath.Clean(path)] = f
	return nil
}

func (p *payloads) downward(items []corev1.DownwardAPIVolumeFile, mode int32) error {
	for i := range items {
		item := &items[i]
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = p.facts.Field(item.FieldRef)
		case item.ResourceFieldRef != nil:
			text, err = p.facts.Resource(item.ResourceFieldRef, nil)
		}
		if err != nil {
			return err
		}
		if err := p.add(item.Path, file{[]byte(text), modeOf(item.Mode, mode)}); err != nil {
			return err
		}
	}
	return nil
}

// tokenKey is what a token is for.
type tokenKey struct {
	pod      types.UID
	volume   string
	audience string
	seconds  int64
}

type token struct {
	text    string
	refresh time.Time
}

// maxTokenAge is when a token is replaced however long it would live.
const maxTokenAge = 24 * time.Hour

func (p *payloads) token(s *corev1.ServiceAccountTokenProjection, mode int32) error {
	key := tokenKey{pod: p.facts.Pod.UID, volume: p.volume, audience: s.Audience, seconds: 3600}
	if s.ExpirationSeconds != nil {
		key.seconds = *s.ExpirationSeconds
	}
	t, err := p.m.tokenFor(p.ctx, p.facts.Pod, key)
	if err != nil {
		return err
	}
	if p.out.Refresh.IsZero() || t.refresh.Before(p.out.Refresh) {
		p.out.Refresh = t.refresh
	}
	if fsGroup(p.facts.Pod) != nil {
		mode = 0o600 // the group gets its bits with the ownership
	}
	return p.add(s.Path, file{[]byte(t.text), mode})
}

// tokenFor gives the token it has until four fifths of its life, or a day, have passed.
func (m *Manager) tokenFor(ctx context.Context, pod *corev1.Pod, key tokenKey) (token, error) {
	m.mu.Lock()
	t, ok := m.tokens[key]
	m.mu.Unlock()
	if ok && time.Now().Before(t.refresh) {
		return t, nil
	}
	asked := time.Now()
	text, expires, err := m.cfg.Tokens(ctx, pod, key.audience, key.seconds)
	if err != nil {
		return token{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	life := min(expires.Sub(asked)*4/5, maxTokenAge)
	t = token{text: text, refresh: asked.Add(life)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens[key] = t
	return t, nil
}
