package server

import (
	"context"
	"fmt"
	"strings"

	"svcplane/server/admin"
	"svcplane/systemd"
)

// keepReporting tells the service manager how the server is until the function is called that it returns, or ctx ends.
func (s *Server) keepReporting(ctx context.Context, to *systemd.Manager) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	go to.Run(ctx, s.look) // not waited for: looking hangs where the server does
	return cancel
}

// look says how the server is, in one line. An error is what another start mends: a part that has ended, an API that
// does not answer its own process. What is short or away, a full disk or a lost address, is no error; and where a part
// hangs at a lock of its own, so does look.
func (s *Server) look(ctx context.Context) (string, error) {
	all := s.parts.status()
	for _, p := range all {
		if p.State == admin.Failed {
			return "", fmt.Errorf("%s has ended: %s", p.Part, p.Figure)
		}
	}
	// Through the whole chain of handlers, and not to the store, which has ended while the disk is full.
	if _, err := s.client.Discovery().RESTClient().Get().AbsPath("/livez/ping").Do(ctx).Raw(); err != nil {
		return "", fmt.Errorf("the api does not answer: %w", err)
	}
	return oneLine(all), nil
}

// oneLine is the state of the parts for `systemctl status`: those that are not well, or one figure.
func oneLine(all []admin.Status) string {
	var unwell []string
	figure := ""
	for _, s := range all {
		if s.State != admin.Serving {
			unwell = append(unwell, fmt.Sprintf("%s %s (%s)", s.Part, s.State, s.Figure))
		}
		if s.Part == PartProxy || s.Part == partAPI && figure == "" {
			figure = s.Part + " " + s.Figure
		}
	}
	if len(unwell) > 0 {
		return "degraded: " + strings.Join(unwell, "; ")
	}
	return fmt.Sprintf("serving: %d parts, %s", len(all), figure)
}
