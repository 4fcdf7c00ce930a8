package ingress

import (
	"crypto/tls"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// publication says which routing table is in force.
type publication struct {
	number int
	at     time.Time
}

// publish puts a table into force. One caller at a time.
func (s *server) publish(t *Table) {
	s.table.Store(t)
	last, _ := s.tables()
	s.published.Store(&publication{last + 1, time.Now()})
}

// tables is how many were put into force, and when the last one was.
func (s *server) tables() (int, time.Time) {
	if p := s.published.Load(); p != nil {
		return p.number, p.at
	}
	return 0, time.Time{}
}

// certificate is one that is served for a host.
type certificate struct {
	host    string
	secret  types.NamespacedName
	expires time.Time
	serial  string
}

// certificates lists those in force, one for each host and Secret.
func (c *controller) certificates() []certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.certs.inForce()
}

func (s *certStore) inForce() []certificate {
	type key struct {
		host   string
		secret types.NamespacedName
	}
	var all []certificate
	seen := map[key]bool{}
	for _, c := range s.refs {
		for _, ref := range c.tls {
			cert := s.secrets[ref.secret].cert
			if cert == nil || cert.Leaf == nil {
				continue
			}
			for _, host := range hostsOf(ref.hosts, cert) {
				if k := (key{host, ref.secret}); !seen[k] {
					seen[k] = true
					all = append(all, certificate{host, ref.secret, cert.Leaf.NotAfter, cert.Leaf.SerialNumber.String()})
				}
			}
		}
	}
	return all
}

// hostsOf are the hosts that a certificate is served for: those that the Ingress names, else its own.
func hostsOf(named []string, cert *tls.Certificate) []string {
	if len(named) > 0 {
		return named
	}
	return certNames(cert)
}
