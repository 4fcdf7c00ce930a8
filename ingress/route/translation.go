package route

import "k8s.io/apimachinery/pkg/types"

// Translation is an object of some kind, understood: what it wants routed, and with which certificates. It depends on
// nothing but the object.
type Translation struct {
	Claim
	TLS      []CertificateRef
	Problems []Problem // with what the object says; the rest of it is in force
}

// CertificateRef is a certificate for hosts; without hosts it is for the names in the certificate.
type CertificateRef struct {
	Hosts  []string // in lower case
	Secret types.NamespacedName
}
