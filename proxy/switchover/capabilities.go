package switchover

import (
	"context"
	"errors"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"svcplane/proxy"
)

var _ proxy.Dataplane = (*Switch)(nil)

// Capabilities are those of the data planes. What has to run beside them runs in Run.
func (s *Switch) Capabilities() proxy.Capabilities {
	return proxy.Capabilities{Flows: s, Counters: s, Affinity: s, Explainer: s, Leftovers: s, Metrics: s}
}

// each calls f with what the data plane that serves can do, and with what the other one can.
func (s *Switch) each(f func(proxy.Capabilities) error) error {
	var problems []error
	current, other := s.members()
	for _, m := range []*member{current, other} {
		if m != nil {
			problems = append(problems, f(m.plane.Capabilities()))
		}
	}
	return errors.Join(problems...)
}

// serving is what the data plane that takes new connections can do.
func (s *Switch) serving() proxy.Capabilities {
	current, _ := s.members()
	return current.plane.Capabilities()
}

// EndFlows ends those of the data planes that keep track of connections themselves.
func (s *Switch) EndFlows(ctx context.Context, stale func(proxy.Flow) bool) (ended uint, err error) {
	err = s.each(func(can proxy.Capabilities) error {
		if can.Flows == nil {
			return nil
		}
		n, err := can.Flows.EndFlows(ctx, stale)
		ended += n
		return err
	})
	return ended, err
}

// Tallies are what the data planes count that do so themselves.
func (s *Switch) Tallies(ctx context.Context) (all []proxy.Tally, err error) {
	err = s.each(func(can proxy.Capabilities) error {
		if can.Counters == nil {
			return nil
		}
		more, err := can.Counters.Tallies(ctx)
		all = append(all, more...)
		return err
	})
	return all, err
}

// Collect implements prometheus.Collector.
func (s *Switch) Collect(to chan<- prometheus.Metric) {
	_ = s.each(func(can proxy.Capabilities) error { // no call returns an error
		if can.Metrics != nil {
			can.Metrics.Collect(to)
		}
		return nil
	})
}

// Describe implements prometheus.Collector: it says nothing beforehand, since what is measured depends on who serves.
func (s *Switch) Describe(chan<- *prometheus.Desc) {}

// Affinities are what the data plane knows that takes new connections.
func (s *Switch) Affinities(ctx context.Context, table proxy.Table) ([]proxy.ClientAffinity, error) {
	if reader := s.serving().Affinity; reader != nil {
		return reader.Affinities(ctx, table)
	}
	return nil, nil
}

// Where is about the data plane that takes new connections.
func (s *Switch) Where(f proxy.Frontend, client netip.Addr) []string {
	explainer := s.serving().Explainer
	if explainer == nil {
		return nil
	}
	return append([]string{s.Mode() + ":"}, explainer.Where(f, client)...)
}

// Leftovers are what another proxy has left behind, as far as the data plane that serves finds it.
func (s *Switch) Leftovers(ctx context.Context) ([]string, error) {
	if finder := s.serving().Leftovers; finder != nil {
		return finder.Leftovers(ctx)
	}
	return nil, nil
}
