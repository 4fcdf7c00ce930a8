package switchover

import (
	"cmp"
	"fmt"
	"time"
)

// Status is how things stand.
type Status struct {
	Serving string
	Phase   Phase
	Other   string    // the data plane that comes or goes
	Left    int       // connections that it still has
	Until   time.Time // when it goes at the latest
	Problem string
	Reason  string // why it is not the preferred one
}

// Status says how things stand.
func (s *Switch) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Serving: s.current.name, Phase: s.phase, Left: s.left, Problem: s.problem, Reason: s.reason}
	if s.phase == Draining {
		st.Until = s.state.Until
	}
	if s.other != nil {
		st.Other = s.other.name
	}
	if monitor := s.current.plane.Capabilities().Monitor; monitor != nil {
		st.Problem = cmp.Or(monitor.Problem(), st.Problem)
	}
	return st
}

// String is one line: "ebpf", or "ebpf, draining iptables: 12 connections left, at most until 15:04:05".
func (st Status) String() string {
	text := st.Serving
	switch st.Phase {
	case Proving:
		text += ", proving the other data plane"
	case Draining:
		text += fmt.Sprintf(", draining %s: %d connections left, at most until %s", st.Other, st.Left, st.Until.Local().Format(time.TimeOnly))
	}
	for _, remark := range []string{st.Reason, st.Problem} {
		if remark != "" {
			text += " (" + remark + ")"
		}
	}
	return text
}
