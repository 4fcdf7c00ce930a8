package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"svcplane/server/admin"
)

// living is a server with these parts and an API that answers as answer does.
func living(t *testing.T, answer http.HandlerFunc, parts ...part) *Server {
	t.Helper()
	api := httptest.NewServer(answer)
	t.Cleanup(api.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: api.URL})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{parts: newParts(), client: client}
	t.Cleanup(s.parts.stop)
	for _, p := range parts {
		if err := s.parts.start(t.Context(), "a", p); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func pingable(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/livez/ping" {
		http.NotFound(w, r)
	}
}

// TestALackIsNoReasonToEnd: a full disk and a lost address mend themselves, and a restart would not.
func TestALackIsNoReasonToEnd(t *testing.T) {
	s := living(t, pingable, lacking{newFake("a", &diary{})})
	line, err := s.look(t.Context())
	if err != nil || line != "degraded: a degraded (fine: a link is down: bring it up)" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestWhatARestartMendsIsToldApart(t *testing.T) {
	broken := newFake("broken", &diary{})
	s := living(t, pingable, broken)
	if _, err := s.look(t.Context()); err != nil {
		t.Errorf("while it works: %v", err)
	}
	broken.fail <- errors.New("out of order")
	if err := s.parts.wait(t.Context()); err == nil {
		t.Fatal("the part has not failed")
	}
	if _, err := s.look(t.Context()); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("with a part that ended: %v", err)
	}
	s = living(t, http.NotFound)
	if _, err := s.look(t.Context()); err == nil || !strings.Contains(err.Error(), "the api does not answer") {
		t.Errorf("with an API that is out of order: %v", err)
	}
}

// hanging is a part that waits for a lock which it never gets.
type hanging struct {
	*fakePart
	lock chan struct{}
}

func (h hanging) Figure() string { <-h.lock; return "late" }

// TestWhereAPartHangsNothingIsSaid: the watchdog gets its sign of life after looking, and looking ends with the part only.
func TestWhereAPartHangsNothingIsSaid(t *testing.T) {
	lock := make(chan struct{})
	s := living(t, pingable, hanging{newFake("a", &diary{}), lock})
	looked := make(chan error, 1)
	go func() {
		_, err := s.look(context.Background())
		looked <- err
	}()
	select {
	case err := <-looked:
		t.Errorf("looked past a part that hangs (%v)", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(lock)
	if err := <-looked; err != nil {
		t.Error(err)
	}
}

func TestOneLine(t *testing.T) {
	got := oneLine([]admin.Status{{Part: "api", State: admin.Serving, Figure: "9 paths"}, {Part: PartProxy, State: admin.Serving, Figure: "3 services, 4 endpoints"}})
	if got != "serving: 2 parts, proxy 3 services, 4 endpoints" {
		t.Errorf("got %q", got)
	}
}
