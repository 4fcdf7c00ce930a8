package switchover

import (
	"context"
	"errors"

	"svcplane/proxy"
)

var _ proxy.Tallier = (*Switch)(nil)

// Tallies are what the data planes count that do so by themselves.
func (s *Switch) Tallies(ctx context.Context) ([]proxy.Tally, error) {
	var all []proxy.Tally
	var problems []error
	current, other := s.members()
	for _, m := range []*member{current, other} {
		if m == nil {
			continue
		}
		if counts, ok := m.plane.(proxy.Tallier); ok {
			more, err := counts.Tallies(ctx)
			all, problems = append(all, more...), append(problems, err)
		}
	}
	return all, errors.Join(problems...)
}
