package runtime

import (
	"context"
	"errors"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// broadcaster gives every event to every listener, which has to keep up.
type broadcaster struct {
	mu        sync.Mutex
	listeners map[chan *runtimeapi.ContainerEventResponse]struct{}
}

// backlog is how many events a listener may be behind before it is cut off (and has to list anew).
const backlog = 1024

func (b *broadcaster) send(event *runtimeapi.ContainerEventResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for l := range b.listeners {
		select {
		case l <- event:
		default:
			close(l)
			delete(b.listeners, l)
		}
	}
}

func (b *broadcaster) listen() (events <-chan *runtimeapi.ContainerEventResponse, stop func()) {
	l := make(chan *runtimeapi.ContainerEventResponse, backlog)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.listeners == nil {
		b.listeners = map[chan *runtimeapi.ContainerEventResponse]struct{}{}
	}
	b.listeners[l] = struct{}{}
	return l, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.listeners, l)
	}
}

// GetContainerEvents sends what happens to sandboxes and containers to events until ctx ends. connected,
// if set, is called with nil once nothing is missed any more.
func (r *Runtime) GetContainerEvents(ctx context.Context, events chan *runtimeapi.ContainerEventResponse, connected func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	if err := r.waitReady(ctx); err != nil {
		return err
	}
	source, stop := r.events.listen()
	defer stop()
	if connected != nil {
		connected(nil)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event, ok := <-source:
			if !ok {
				return errors.New("container events: the listener fell behind; list the containers and listen again")
			}
			select {
			case events <- event:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// notify sends an event of a container.
func (r *Runtime) notify(c *containerEntry, kind runtimeapi.ContainerEventType) {
	event := r.sandboxEvent(c.SandboxID, kind)
	event.ContainerId = c.ID
	r.events.send(event)
}

// sandboxEvent describes a sandbox and its containers as they are now.
func (r *Runtime) sandboxEvent(sandboxID string, kind runtimeapi.ContainerEventType) *runtimeapi.ContainerEventResponse {
	event := &runtimeapi.ContainerEventResponse{ContainerId: sandboxID, ContainerEventType: kind, CreatedAt: time.Now().UnixNano()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[sandboxID]; s != nil {
		event.PodSandboxStatus = s.status()
	}
	for _, c := range r.containers {
		if c.SandboxID == sandboxID {
			event.ContainersStatuses = append(event.ContainersStatuses, c.status())
		}
	}
	return event
}
