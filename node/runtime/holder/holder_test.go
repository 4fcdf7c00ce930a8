package holder

import "testing"

// Whoever asks for one pod must not take the answer for all: what happened to others would be missed.
func TestStateOfOneIsNoStateOfAll(t *testing.T) {
	h := &Holder{seq: 7, sandboxes: map[string]*heldSandbox{}, containers: map[string]*container{}}
	for id, sandbox := range map[string]string{"a1": "a", "a2": "a", "b1": "b"} {
		h.containers[id] = &container{status: ContainerStatus{ID: id, SandboxID: sandbox}}
	}
	for id, want := range map[string]int{"a": 2, "b": 1, "a1": 1, "none": 0} {
		s := h.stateOf(id)
		if len(s.Containers) != want || s.Seq != 0 {
			t.Errorf("%s: %d containers and number %d, want %d and 0", id, len(s.Containers), s.Seq, want)
		}
	}
}
