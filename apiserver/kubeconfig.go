package apiserver

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// writeKubeconfig writes the administrator's kubeconfig; a file that already says the same is left alone.
func writeKubeconfig(path string, p *PKI, api netip.AddrPort) error {
	ca, err := p.CA()
	if err != nil {
		return fmt.Errorf("reading the certificate authority: %w", err)
	}
	cert, err := os.ReadFile(p.cert(pairAdmin))
	if err != nil {
		return fmt.Errorf("reading the administrator's certificate: %w", err)
	}
	key, err := os.ReadFile(p.key(pairAdmin))
	if err != nil {
		return fmt.Errorf("reading the administrator's key: %w", err)
	}
	const name = "svcplane"
	data, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: "https://" + api.String(), CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name + "-admin": {ClientCertificateData: cert, ClientKeyData: key}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name + "-admin"}},
		CurrentContext: name,
	})
	if err != nil {
		return fmt.Errorf("encoding the kubeconfig: %w", err)
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return os.Chmod(path, 0o600)
	}
	return writeFile(path, data)
}

// clientAddress is where a client on this machine finds a server that listens on addr.
func clientAddress(addr net.Addr) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading the API's listening address %s: %w", addr, err)
	}
	if ap.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), ap.Port()), nil
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// KubeconfigPath is where the administrator's kubeconfig of a data directory lies.
func KubeconfigPath(dataDir string) string { return filepath.Join(dataDir, "kubeconfig") }
