package listen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"time"
)

// CertTable chooses certificates by SNI. It is immutable.
type CertTable struct {
	exact    map[string][]*tls.Certificate // by host
	wildcard map[string][]*tls.Certificate // by what follows "*."
	Fallback *tls.Certificate
}

// NewCertTable makes a table that answers fallback to every name.
func NewCertTable(fallback *tls.Certificate) *CertTable {
	return &CertTable{
		exact:    map[string][]*tls.Certificate{},
		wildcard: map[string][]*tls.Certificate{},
		Fallback: fallback,
	}
}

// Add offers c for host, after what was added before; only for a table that nobody else sees yet.
func (t *CertTable) Add(host string, c *tls.Certificate) {
	if suffix, wild := strings.CutPrefix(host, "*."); wild {
		t.wildcard[suffix] = append(t.wildcard[suffix], c)
		return
	}
	t.exact[host] = append(t.exact[host], c)
}

// Choose is the first certificate for the name that the client can verify: exact host before wildcard, then in the
// order of add, so that an ECDSA and an RSA certificate may stand side by side.
func (t *CertTable) Choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	candidates := t.candidates(nameOf(hello.ServerName))
	for _, c := range candidates {
		if len(candidates) == 1 || hello.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	if len(candidates) > 0 {
		return candidates[0], nil
	}
	return t.Fallback, nil
}

// Misdirected says whether a request for host may not come over a connection that was opened for the name sni: the
// certificate that the client saw is not the one for host (RFC 9110 section 15.5.20). A client that named nobody
// has seen the fallback and may ask for anything.
func (t *CertTable) Misdirected(sni, host string) bool {
	if sni == "" || sni == host {
		return false
	}
	sni = nameOf(sni)
	if _, err := netip.ParseAddr(sni); err == nil {
		return false // an address is no name, though some send it (RFC 6066 section 3)
	}
	return sni != host && t.first(sni) != t.first(host)
}

// nameOf is a server name in the form in which hosts are kept.
func nameOf(sni string) string { return strings.ToLower(strings.TrimSuffix(sni, ".")) }

// first is the certificate that comes first for a name.
func (t *CertTable) first(name string) *tls.Certificate {
	if c := t.candidates(name); len(c) > 0 {
		return c[0]
	}
	return t.Fallback
}

func (t *CertTable) candidates(name string) []*tls.Certificate {
	if c := t.exact[name]; len(c) > 0 {
		return c
	}
	if _, suffix, found := strings.Cut(name, "."); found {
		return t.wildcard[suffix]
	}
	return nil
}

// SelfSigned makes the certificate for names that nobody brought one for. It lives in memory only.
func SelfSigned(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the default certificate's key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making the default certificate's serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "svcplane ingress default certificate"},
		DNSNames:     []string{"ingress.svcplane.invalid"},
		NotBefore:    now.AddDate(-1, 0, 0), // clocks differ, and nobody verifies it anyway
		NotAfter:     now.AddDate(20, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the default certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the default certificate back: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
