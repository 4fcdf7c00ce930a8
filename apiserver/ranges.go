package apiserver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"svcplane/apiserver/store"
)

// keyServiceCIDR is where upstream stores the ServiceCIDR that has the range of the flag.
const keyServiceCIDR = "/registry/servicecidrs/kubernetes"

// checkServiceCIDRs refuses ranges that the stored Services do not have, before anything is changed. Upstream serves on and
// tells of it by an Event on the ServiceCIDR: default/kubernetes and the DNS then ask for addresses that the allocators do
// not give, for ever, and a node that waits for them is taken for dead, with all of its pods.
func checkServiceCIDRs(ctx context.Context, s *store.Store, asked []netip.Prefix) error {
	value, err := s.Get(ctx, keyServiceCIDR)
	if err != nil {
		return fmt.Errorf("reading the range of the stored Services: %w", err)
	}
	if value == nil {
		return nil // a new store
	}
	stored := &networkingv1.ServiceCIDR{}
	if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(value, nil, stored); err != nil {
		return fmt.Errorf("reading the range of the stored Services: %w", err)
	}
	return sameServiceCIDRs(stored.Spec.CIDRs, asked)
}

// sameServiceCIDRs lets a second family come and go: upstream takes it up by itself.
func sameServiceCIDRs(stored []string, asked []netip.Prefix) error {
	for i := range min(len(stored), len(asked)) {
		if stored[i] != asked[i].String() {
			had := strings.Join(stored, ",")
			return fmt.Errorf("--service-cidr %s: the Services of this data directory have their addresses from %s, and keep them: start with --service-cidr %s, "+
				"or begin anew without everything (`svcplane cleanup --data`)", joinPrefixes(asked), had, had)
		}
	}
	return nil
}
