package apiserver

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// PKI is the set of keys and certificates in one directory. Files that are there and fit are kept.
type PKI struct {
	dir string
}

// Names are what the serving certificate must be valid for.
type Names struct {
	DNS []string
	IPs []netip.Addr
}

// Certificates do not depend on the machine's clock: an edge box may boot in 1970 and a laptop in 2040.
// RFC 5280 section 4.1.2.5 gives 99991231235959Z for "no well-defined expiration date".
var (
	validFrom = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	validTo   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// The pairs in the directory: NAME.crt and NAME.key.
const (
	pairCA            = "ca"                       // signs everything but the front proxy's certificate
	pairFrontCA       = "front-proxy-ca"           // signs what aggregated API servers trust
	pairFrontClient   = "front-proxy-client"       //
	pairServing       = "apiserver"                // follows the machine's addresses
	pairKubeletClient = "apiserver-kubelet-client" // the API server towards the node
	pairKubelet       = "kubelet"                  // the node's server
	pairAdmin         = "admin"                    // the administrator's kubeconfig
	keyAccounts       = "service-account.key"      // signs service-account tokens
)

// EnsurePKI makes what is missing in dir and renews the two serving certificates when names changed.
func EnsurePKI(dir string, api, node Names) (*PKI, error) {
	p := &PKI{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the certificate directory: %w", err)
	}
	ca, err := p.ensureCA(pairCA, "svcplane-ca")
	if err != nil {
		return nil, err
	}
	frontCA, err := p.ensureCA(pairFrontCA, "svcplane-front-proxy-ca")
	if err != nil {
		return nil, err
	}
	// Identities as kubeadm gives them (Kubernetes: "PKI certificates and requirements").
	leaves := []struct {
		name   string
		issuer *signer
		subj   pkix.Name
		usage  x509.ExtKeyUsage
		names  Names
	}{
		{pairServing, ca, pkix.Name{CommonName: "kube-apiserver"}, x509.ExtKeyUsageServerAuth, api},
		{pairKubelet, ca, pkix.Name{CommonName: "kubelet"}, x509.ExtKeyUsageServerAuth, node},
		{pairAdmin, ca, pkix.Name{CommonName: "kubernetes-admin", Organization: []string{"system:masters"}}, x509.ExtKeyUsageClientAuth, Names{}},
		{pairKubeletClient, ca, pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}}, x509.ExtKeyUsageClientAuth, Names{}},
		{pairFrontClient, frontCA, pkix.Name{CommonName: "front-proxy-client"}, x509.ExtKeyUsageClientAuth, Names{}},
	}
	for _, l := range leaves {
		template := &x509.Certificate{Subject: l.subj, ExtKeyUsage: []x509.ExtKeyUsage{l.usage}, KeyUsage: x509.KeyUsageDigitalSignature}
		template.DNSNames = l.names.DNS
		for _, ip := range l.names.IPs {
			template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
		}
		if err := p.ensureLeaf(l.name, l.issuer, template); err != nil {
			return nil, err
		}
	}
	return p, p.ensureKey(keyAccounts)
}

// Path gives the file of one part, for upstream's options that take paths.
func (p *PKI) Path(file string) string { return filepath.Join(p.dir, file) }

func (p *PKI) cert(pair string) string { return p.Path(pair + ".crt") }
func (p *PKI) key(pair string) string  { return p.Path(pair + ".key") }

// CAFiles are the certificate and the key that issue client certificates.
func (p *PKI) CAFiles() (cert, key string) { return p.cert(pairCA), p.key(pairCA) }

// CA returns the PEM certificate that clients and pods trust.
func (p *PKI) CA() ([]byte, error) { return os.ReadFile(p.cert(pairCA)) }

// ServiceAccountKey signs service-account tokens.
func (p *PKI) ServiceAccountKey() (crypto.Signer, error) {
	data, err := os.ReadFile(p.Path(keyAccounts))
	if err != nil {
		return nil, fmt.Errorf("reading the service-account key: %w: restore it from a copy, or remove it to make a new one (every token then changes)", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("service-account key %s does not hold PEM: restore it from a copy, or remove it to make a new one (every token then changes)", p.Path(keyAccounts))
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p.Path(keyAccounts), err)
	}
	return key, nil
}

// KubeletServing names the certificate and key files of the node's server.
func (p *PKI) KubeletServing() (certFile, keyFile string) {
	return p.cert(pairKubelet), p.key(pairKubelet)
}

type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (p *PKI) ensureCA(pair, commonName string) (*signer, error) {
	if s, err := p.load(pair); err == nil {
		return s, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		if pair == pairFrontCA {
			return nil, fmt.Errorf("%w: restore it from a copy, or remove it to make a new one (only API servers behind an APIService have to get it)", err)
		}
		return nil, fmt.Errorf("%w: restore it from a copy, or begin anew without the cluster: `svcplane cleanup --data`", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	return p.issue(pair, template, nil, nil)
}

func (p *PKI) ensureLeaf(pair string, issuer *signer, template *x509.Certificate) error {
	have, err := p.load(pair)
	if err == nil && fits(have.cert, template, issuer.cert) {
		return nil
	}
	var key *ecdsa.PrivateKey
	if err == nil {
		key, _ = have.key.(*ecdsa.PrivateKey) // kept: whoever reads both files meanwhile gets two that belong together
	}
	_, err = p.issue(pair, template, issuer, key)
	return err
}

// fits says whether a certificate may be kept: same issuer, same names.
func fits(have, want, issuer *x509.Certificate) bool {
	return have.CheckSignatureFrom(issuer) == nil &&
		have.Subject.CommonName == want.Subject.CommonName &&
		slices.Equal(have.DNSNames, want.DNSNames) &&
		slices.EqualFunc(have.IPAddresses, want.IPAddresses, net.IP.Equal)
}

// issue makes a certificate, and a key where there is none; issuer nil makes it self-signed.
func (p *PKI) issue(pair string, template *x509.Certificate, issuer *signer, key *ecdsa.PrivateKey) (*signer, error) {
	var err error
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, fmt.Errorf("making the key of %s: %w", pair, err)
		}
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("making the serial number of %s: %w", pair, err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = serial, validFrom, validTo
	parent, parentKey := template, crypto.Signer(key)
	if issuer != nil {
		parent, parentKey = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", pair, err)
	}
	if err := writeKey(p.key(pair), key); err != nil {
		return nil, err
	}
	if err := writeFile(p.cert(pair), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading back %s: %w", pair, err)
	}
	return &signer{cert: cert, key: key}, nil
}

func (p *PKI) ensureKey(file string) error {
	if _, err := p.ServiceAccountKey(); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making %s: %w", file, err)
	}
	return writeKey(p.Path(file), key)
}

func (p *PKI) load(pair string) (*signer, error) {
	certPEM, err := os.ReadFile(p.cert(pair))
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(p.key(pair))
	if err != nil {
		return nil, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		broken := p.cert(pair)
		if certBlock != nil {
			broken = p.key(pair)
		}
		return nil, fmt.Errorf("%s does not hold PEM", broken)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p.cert(pair), err)
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p.key(pair), err)
	}
	return &signer{cert: cert, key: key}, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// writeFile replaces path in one step, readable by its owner only.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing %s: %w: whatever has its place has to go", path, err)
	}
	return nil
}
