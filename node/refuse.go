package node

import (
	"context"
	"fmt"

	podplan "svcplane/node/pod"
)

// stopRefused ends the containers that run and may not any more, since the server was started with other flags, and
// gives what the runtime holds then. Those that the restart policy brings back are refused by the runtime.
func (w *worker) stopRefused(ctx context.Context, st *podplan.State) (*podplan.State, error) {
	if w.n.cfg.Refused == nil {
		return st, nil
	}
	stopped := false
	for _, s := range st.Running() {
		err := w.n.cfg.Refused(w.first.Namespace, s.ImageRef)
		if err == nil {
			continue
		}
		message := fmt.Sprintf("Container %s may not run any more: %v", podplan.ContainerName(s), err)
		if err := w.n.stopContainer(ctx, w.pod, nil, s, graceOf(w.pod), message); err != nil {
			return st, err
		}
		stopped = true
	}
	if !stopped {
		return st, nil
	}
	return readState(ctx, w.n.cfg.Runtime, w.first.UID)
}
