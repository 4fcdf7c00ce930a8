package controllertest

import (
	"context"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/record"
)

// Deadline is how long a condition may take to become true.
const Deadline = 20 * time.Second

// Run starts the informers and a controller, waits until ready is closed (nil: it is at once), and ends them with the test.
func Run(t *testing.T, factory informers.SharedInformerFactory, run func(context.Context) error, ready <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	factory.Start(ctx.Done())
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil when its context ends", err)
		}
		factory.Shutdown()
	})
	if ready == nil {
		return
	}
	select {
	case <-ready:
	case <-time.After(Deadline):
		t.Fatal("never ready")
	}
}

// WantEvent waits for the next Event, which has to have part in it.
func WantEvent(t *testing.T, events *record.FakeRecorder, part string) {
	t.Helper()
	select {
	case got := <-events.Events:
		if !strings.Contains(got, part) {
			t.Fatalf("event %q, want one with %q", got, part)
		}
	case <-time.After(Deadline):
		t.Fatalf("no event, want one with %q", part)
	}
}
