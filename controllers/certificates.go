package controllers

import (
	"context"
	"fmt"
	"time"

	"k8s.io/kubernetes/pkg/controller/certificates/cleaner"
	"k8s.io/kubernetes/pkg/controller/certificates/signer"
)

// ClientCA is the authority whose client certificates the API trusts, as PEM files.
type ClientCA struct {
	Certificate, Key string // paths
}

// clientCertificateLife is how long a client certificate is valid whose request does not say (kube-controller-manager's
// default for --cluster-signing-duration).
const clientCertificateLife = 365 * 24 * time.Hour

// buildSigning makes what issues client certificates to people whose request an administrator has approved (signer
// kubernetes.io/kube-apiserver-client of the Kubernetes documentation, "Certificates and CertificateSigningRequests").
func buildSigning(ctx context.Context, p *parts) (runner, error) {
	c, err := signer.NewKubeAPIServerClientCSRSigningController(ctx, p.Client, p.Factory.Certificates().V1().CertificateSigningRequests(),
		p.ClientCA.Certificate, p.ClientCA.Key, clientCertificateLife)
	if err != nil {
		return nil, fmt.Errorf("issuing client certificates with %s: %w", p.ClientCA.Certificate, err)
	}
	return withWorkers(c.Run), nil
}

// buildSigningCleaner makes what removes requests some time after they were answered.
func buildSigningCleaner(_ context.Context, p *parts) (runner, error) {
	requests := p.Factory.Certificates().V1().CertificateSigningRequests()
	return withWorkers(cleaner.NewCSRCleanerController(p.Client.CertificatesV1().CertificateSigningRequests(), requests).Run), nil
}
