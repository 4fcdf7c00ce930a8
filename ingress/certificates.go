package ingress

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/ingress/listen"
	"svcplane/ingress/route"
	"svcplane/ingress/serve"
)

// certStore knows the certificates that objects refer to. It is not safe for concurrent use; the tables are.
type certStore struct {
	get     func(types.NamespacedName) *corev1.Secret      // nil: there is none
	refs    map[route.Object]*route.Translation            // objects with TLS
	bySec   map[types.NamespacedName]map[route.Object]bool // who refers to a Secret
	secrets map[types.NamespacedName]parsedSecret          // those that somebody refers to
}

// parsedSecret is a certificate, or why there is none.
type parsedSecret struct {
	cert    *tls.Certificate
	problem route.Problem
}

func newCertStore(get func(types.NamespacedName) *corev1.Secret) *certStore {
	return &certStore{
		get:     get,
		refs:    map[route.Object]*route.Translation{},
		bySec:   map[types.NamespacedName]map[route.Object]bool{},
		secrets: map[types.NamespacedName]parsedSecret{},
	}
}

// set replaces what an object (nil: gone) refers to, and says whether the table must be built again.
func (s *certStore) set(key route.Object, c *route.Translation) bool {
	old := s.refs[key]
	if old != nil {
		for _, ref := range old.TLS {
			delete(s.bySec[ref.Secret], key)
		}
	}
	delete(s.refs, key)
	if c != nil && len(c.TLS) > 0 {
		s.refs[key] = c
		for _, ref := range c.TLS {
			if s.bySec[ref.Secret] == nil {
				s.bySec[ref.Secret] = map[route.Object]bool{}
			}
			s.bySec[ref.Secret][key] = true
			s.load(ref.Secret)
		}
	}
	if old != nil {
		for _, ref := range old.TLS {
			if len(s.bySec[ref.Secret]) == 0 {
				delete(s.bySec, ref.Secret)
				delete(s.secrets, ref.Secret)
			}
		}
	}
	return old != nil || s.refs[key] != nil
}

// refresh reads a Secret again and returns the objects that refer to it.
func (s *certStore) refresh(secret types.NamespacedName) map[route.Object]bool {
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
		s.secrets[key] = parsedSecret{problem: route.Problem{Reason: "SecretNotFound", Message: fmt.Sprintf(
			"there is no Secret %s: the default certificate is served; create it (kubectl create secret tls) or correct spec.TLS", key)}}
		return
	}
	cert, err := parseCertificate(secret)
	if err != nil {
		s.secrets[key] = parsedSecret{problem: route.Problem{Reason: "CertificateInvalid", Message: fmt.Sprintf(
			"the certificate in Secret %s cannot be used: %v; the default certificate is served; replace %s and %s with a matching pair in PEM", key, err, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)}}
		return
	}
	s.secrets[key] = parsedSecret{cert: cert}
}

// table builds the choice of certificates: for each host the oldest object comes first.
func (s *certStore) table(fallback *tls.Certificate) *listen.CertTable {
	t := listen.NewCertTable(fallback)
	byAge := slices.SortedFunc(maps.Values(s.refs), func(a, b *route.Translation) int { return a.Origin.Compare(b.Origin) })
	for _, c := range byAge {
		for _, ref := range c.TLS {
			cert := s.secrets[ref.Secret].cert
			if cert == nil {
				continue
			}
			for _, h := range hostsOf(ref.Hosts, cert) {
				t.Add(h, cert)
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

// problems lists what is wrong with the certificates of an object.
func (s *certStore) problems(key route.Object, now time.Time) []route.Problem {
	c := s.refs[key]
	if c == nil {
		return nil
	}
	var all []route.Problem
	for _, ref := range c.TLS {
		p := s.secrets[ref.Secret]
		if p.cert == nil {
			all = append(all, p.problem)
			continue
		}
		leaf := p.cert.Leaf
		if now.After(leaf.NotAfter) {
			all = append(all, route.Problem{Reason: "CertificateExpired", Message: fmt.Sprintf(
				"the certificate in Secret %s expired at %s: clients will refuse it; renew it", ref.Secret, leaf.NotAfter.UTC().Format(time.RFC3339))})
		}
		for _, h := range ref.Hosts {
			if !certCovers(certNames(p.cert), h) {
				all = append(all, route.Problem{Reason: "CertificateMismatch", Message: fmt.Sprintf(
					"the certificate in Secret %s is not for host %q, only for %q: clients will refuse it; correct spec.TLS or the certificate", ref.Secret, h, certNames(p.cert))})
			}
		}
	}
	return all
}

// inForce lists the certificates that are served, one for each host and Secret.
func (s *certStore) inForce() []serve.Certificate {
	type key struct {
		host   string
		secret types.NamespacedName
	}
	var all []serve.Certificate
	seen := map[key]bool{}
	for _, c := range s.refs {
		for _, ref := range c.TLS {
			cert := s.secrets[ref.Secret].cert
			if cert == nil || cert.Leaf == nil {
				continue
			}
			for _, host := range hostsOf(ref.Hosts, cert) {
				if k := (key{host, ref.Secret}); !seen[k] {
					seen[k] = true
					all = append(all, serve.Certificate{Host: host, Secret: ref.Secret, Expires: cert.Leaf.NotAfter, Serial: cert.Leaf.SerialNumber.String()})
				}
			}
		}
	}
	return all
}

// hostsOf are the hosts that a certificate is served for: those that its object names, else its own.
func hostsOf(named []string, cert *tls.Certificate) []string {
	if len(named) > 0 {
		return named
	}
	return certNames(cert)
}

// parseCertificate reads a Secret of type kubernetes.io/tls.
func parseCertificate(secret *corev1.Secret) (*tls.Certificate, error) {
	for _, name := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if len(secret.Data[name]) == 0 {
			return nil, fmt.Errorf("it has no %s", name)
		}
	}
	c, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "tls: "))
	}
	return &c, nil
}

// certNames are the hosts that a certificate is for: its DNS names, in lower case.
func certNames(c *tls.Certificate) []string {
	names := make([]string, 0, len(c.Leaf.DNSNames))
	for _, n := range c.Leaf.DNSNames {
		names = append(names, strings.ToLower(n))
	}
	return names
}

// certCovers says whether host, which may be a wildcard itself, is one of a certificate's names (RFC 6125).
func certCovers(names []string, host string) bool {
	_, suffix, _ := strings.Cut(host, ".")
	for _, n := range names {
		if n == host || n == "*."+suffix {
			return true
		}
	}
	return false
}
