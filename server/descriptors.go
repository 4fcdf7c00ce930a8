package server

import (
	"k8s.io/klog/v2"

	"svcplane/descriptors"
)

// shareOut divides the files that this process may open.
func shareOut() (descriptors.Shares, error) {
	limit, err := descriptors.Limit()
	if err != nil {
		return descriptors.Shares{}, err
	}
	return descriptors.Share(limit)
}

// fewFiles is a limit that is worth a word at the start.
const fewFiles = 4096

// logShares logs how the open files are shared out, where that limits somebody.
func logShares(shares descriptors.Shares, ingress IngressConfig) {
	short := shares.IngressClients() < ingress.MaxConns
	if shares.Limit > fewFiles && !(short && ingress.MaxConns != IngressMaxConns) {
		klog.V(quietBelow).InfoS("Open files are shared out", "limit", shares)
		return
	}
	klog.Warningf("Open files are limited to %v: raise the limit for more clients (ulimit -n, LimitNOFILE= in a systemd unit)", shares)
}
