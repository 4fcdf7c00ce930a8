package apiserver

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func names(ip string) Names {
	return Names{DNS: []string{"localhost"}, IPs: []netip.Addr{netip.MustParseAddr(ip)}}
}

func readCert(t *testing.T, p *PKI, pair string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(p.cert(pair))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestIdentitySurvivesNewAddresses(t *testing.T) {
	dir := t.TempDir()
	p, err := EnsurePKI(dir, names("192.0.2.1"), names("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]*x509.Certificate{}
	pairs := []string{pairCA, pairFrontCA, pairFrontClient, pairServing, pairKubelet, pairAdmin, pairKubeletClient}
	for _, pair := range pairs {
		before[pair] = readCert(t, p, pair)
	}
	if p, err = EnsurePKI(dir, names("192.0.2.7"), names("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	for _, pair := range pairs {
		if renewed := !before[pair].Equal(readCert(t, p, pair)); renewed != (pair == pairServing) {
			t.Errorf("%s: renewed is %v after the API's address changed", pair, renewed)
		}
	}
	if err := readCert(t, p, pairServing).VerifyHostname("192.0.2.7"); err != nil {
		t.Error(err)
	}
}

func TestCertificatesHoldWhateverTheClockSays(t *testing.T) {
	p, err := EnsurePKI(t.TempDir(), names("192.0.2.1"), names("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(readCert(t, p, pairCA))
	for _, year := range []int{1971, 2026, 2126} {
		_, err := readCert(t, p, pairServing).Verify(x509.VerifyOptions{Roots: roots, CurrentTime: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			t.Errorf("in %d: %v", year, err)
		}
	}
}

func TestKeysAreForTheirOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := EnsurePKI(dir, names("192.0.2.1"), names("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamagedAuthorityIsNotReplacedInSilence(t *testing.T) {
	dir := t.TempDir()
	p, err := EnsurePKI(dir, names("192.0.2.1"), names("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.cert(pairCA), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = EnsurePKI(dir, names("192.0.2.1"), names("192.0.2.1"))
	if err == nil || !strings.Contains(err.Error(), p.cert(pairCA)) || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("got %v", err)
	}
}

// TestDamagedKeyIsNamed: whichever file is broken is the one that is named, with what can be done about that one.
func TestDamagedKeyIsNamed(t *testing.T) {
	for file, remedy := range map[string]string{
		pairCA + ".key":      "cleanup --data",
		pairFrontCA + ".key": "or remove it",
		keyAccounts:          "every token then changes",
	} {
		for _, damage := range []func(string) error{
			func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
			func(path string) error { return os.Truncate(path, 0) },
			func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		} {
			dir := t.TempDir()
			p, err := EnsurePKI(dir, names("192.0.2.1"), names("192.0.2.1"))
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(p.Path(file)); err != nil {
				t.Fatal(err)
			}
			_, err = EnsurePKI(dir, names("192.0.2.1"), names("192.0.2.1"))
			if err == nil || !strings.Contains(err.Error(), p.Path(file)) || !strings.Contains(err.Error(), remedy) {
				t.Errorf("%s: got %v, want %q", file, err, remedy)
			}
		}
	}
}

func TestKubernetesServiceIPIsTheFirstOfTheRange(t *testing.T) {
	got, err := KubernetesServiceIP(netip.MustParsePrefix("10.96.0.0/16"))
	if err != nil || got != netip.MustParseAddr("10.96.0.1") {
		t.Errorf("got %s, %v", got, err)
	}
}
