package ingress

import (
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// certStore knows the certificates that Ingresses refer to. It is not safe for concurrent use; the tables are.
type certStore struct {
	get     func(types.NamespacedName) *corev1.Secret // nil: there is none
	refs    map[types.NamespacedName]*compiled        // Ingresses with TLS
	bySec   map[types.NamespacedName]names            // who refers to a Secret
	secrets map[types.NamespacedName]parsedSecret     // those that somebody refers to
}

// parsedSecret is a certificate, or why there is none.
type parsedSecret struct {
	cert    *tls.Certificate
	problem Problem
}

func newCertStore(get func(types.NamespacedName) *corev1.Secret) *certStore {
	return &certStore{
		get:     get,
		refs:    map[types.NamespacedName]*compiled{},
		bySec:   map[types.NamespacedName]names{},
		secrets: map[types.NamespacedName]parsedSecret{},
	}
}

// setIngress replaces what an Ingress (nil: gone) refers to, and says whether the table must be built again.
func (s *certStore) setIngress(key types.NamespacedName, c *compiled) bool {
	old := s.refs[key]
	if old != nil {
		for _, ref := range old.tls {
			delete(s.bySec[ref.secret], key)
		}
	}
	delete(s.refs, key)
	if c != nil && len(c.tls) > 0 {
		s.refs[key] = c
		for _, ref := range c.tls {
			if s.bySec[ref.secret] == nil {
				s.bySec[ref.secret] = names{}
			}
			s.bySec[ref.secret][key] = true
			s.load(ref.secret)
		}
	}
	if old != nil {
		for _, ref := range old.tls {
			if len(s.bySec[ref.secret]) == 0 {
				delete(s.bySec, ref.secret)
				delete(s.secrets, ref.secret)
			}
		}
	}
	return old != nil || s.refs[key] != nil
}

// refresh reads a Secret again and returns the Ingresses that refer to it.
func (s *certStore) refresh(secret types.NamespacedName) names {
	users := s.bySec[secret]
	if len(users) > 0 {
		delete(s.secrets, secret)
		s.load(secret)
	}
	return users
}

func (s *certStore) load(key types.NamespacedName) {
	if _, ok := s.secrets[key]; ok {
		return
	}
	secret := s.get(key)
	if secret == nil {
		s.secrets[key] = parsedSecret{problem: Problem{"SecretNotFound", fmt.Sprintf(
			"there is no Secret %s: the default certificate is served; create it (kubectl create secret tls) or correct spec.tls", key)}}
		return
	}
	cert, err := parseCertificate(secret)
	if err != nil {
		s.secrets[key] = parsedSecret{problem: Problem{"CertificateInvalid", fmt.Sprintf(
			"the certificate in Secret %s cannot be used: %v; the default certificate is served; replace %s and %s with a matching pair in PEM", key, err, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)}}
		return
	}
	s.secrets[key] = parsedSecret{cert: cert}
}

// table builds the choice of certificates: for each host the oldest Ingress comes first.
func (s *certStore) table(fallback *tls.Certificate) *certTable {
	t := newCertTable(fallback)
	byAge := slices.SortedFunc(maps.Values(s.refs), func(a, b *compiled) int { return a.Origin.compare(b.Origin) })
	for _, c := range byAge {
		for _, ref := range c.tls {
			cert := s.secrets[ref.secret].cert
			if cert == nil {
				continue
			}
			for _, h := range hostsOf(ref.hosts, cert) {
				t.add(h, cert)
			}
		}
	}
	return t
}

// count is the number of usable certificates.
func (s *certStore) count() int {
	n := 0
	for _, p := range s.secrets {
		if p.cert != nil {
			n++
		}
	}
	return n
}

// problems lists what is wrong with the certificates of an Ingress.
func (s *certStore) problems(key types.NamespacedName, now time.Time) []Problem {
	c := s.refs[key]
	if c == nil {
		return nil
	}
	var all []Problem
	for _, ref := range c.tls {
		p := s.secrets[ref.secret]
		if p.cert == nil {
			all = append(all, p.problem)
			continue
		}
		leaf := p.cert.Leaf
		if now.After(leaf.NotAfter) {
			all = append(all, Problem{"CertificateExpired", fmt.Sprintf(
				"the certificate in Secret %s expired at %s: clients will refuse it; renew it", ref.secret, leaf.NotAfter.UTC().Format(time.RFC3339))})
		}
		for _, h := range ref.hosts {
			if !certCovers(certNames(p.cert), h) {
				all = append(all, Problem{"CertificateMismatch", fmt.Sprintf(
					"the certificate in Secret %s is not for host %q, only for %q: clients will refuse it; correct spec.tls or the certificate", ref.secret, h, certNames(p.cert))})
			}
		}
	}
	return all
}

// onlyOurKeys keeps of a Secret what TLS and logins need, so that nothing else of it stays in memory.
func onlyOurKeys(o any) (any, error) {
	if s, ok := o.(*corev1.Secret); ok {
		s = s.DeepCopy()
		s.ManagedFields, s.Annotations, s.Labels, s.StringData = nil, nil, nil, nil
		for name := range s.Data {
			if name != corev1.TLSCertKey && name != corev1.TLSPrivateKeyKey && name != authKey {
				delete(s.Data, name)
			}
		}
		return s, nil
	}
	return o, nil
}
