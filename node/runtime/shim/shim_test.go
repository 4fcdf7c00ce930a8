package shim

import (
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"svcplane/node/runtime/process"
)

// Whoever asks for one pod must not take the answer for all: what happened to others would be missed.
func TestStateOfOneIsNoStateOfAll(t *testing.T) {
	s := &shim{seq: 7, sandboxes: map[string]*heldSandbox{}, containers: map[string]*container{}}
	for id, sandbox := range map[string]string{"a1": "a", "a2": "a", "b1": "b"} {
		s.containers[id] = &container{status: ContainerStatus{ID: id, SandboxID: sandbox}}
	}
	for id, want := range map[string]int{"a": 2, "b": 1, "a1": 1, "none": 0} {
		got := s.stateOf(id)
		if len(got.Containers) != want || got.Seq != 0 {
			t.Errorf("%s: %d containers and number %d, want %d and 0", id, len(got.Containers), got.Seq, want)
		}
	}
}

// TestAnEarlierShimIsNotAskedToPassOverARestriction: it would start the container without it.
func TestAnEarlierShimIsNotAskedToPassOverARestriction(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, socketName))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux() // of an earlier release
	mux.HandleFunc("POST /containers", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.WriteString(w, "{}"); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("DELETE /containers/{id}", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	defer server.Close()
	client := NewClient(dir)
	spec := ContainerSpec{Process: &Process{}}
	if _, err := client.StartContainer(t.Context(), spec); err != nil {
		t.Errorf("without a restriction: %v", err)
	}
	spec.Process.Command.Filter = &process.Filter{}
	_, err = client.StartContainer(t.Context(), spec)
	if _, refused := errors.AsType[Refusal](err); !refused || !strings.Contains(err.Error(), "svcplane cleanup") {
		t.Errorf("with a seccomp filter: %v", err)
	}
	if need, unknown := unknownNeed(strings.Join(spec.needs(), ",")); unknown {
		t.Errorf("this one does not know %q itself", need)
	}
	if need, unknown := unknownNeed("seccomp,later"); !unknown || need != "later" {
		t.Errorf("what a later server needs is taken: %q", need)
	}
}
