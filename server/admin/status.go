package admin

import "time"

// Status is one line of `svcplane status`.
type Status struct {
	Part   string    `json:"part"`
	State  State     `json:"state"`
	Since  time.Time `json:"since"`
	Figure string    `json:"figure"`
}

// State is what a part does.
type State string

// The states of a part.
const (
	Waiting  State = "waiting" // for those before it
	Starting State = "starting"
	Serving  State = "serving"
	Degraded State = "degraded" // it serves, but not all that it should
	Failed   State = "failed"   // it has ended
)
