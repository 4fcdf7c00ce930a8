package shim

import "testing"

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
