package disk

import (
	"errors"
	"strings"
	"syscall"
	"testing"
)

func TestLack(t *testing.T) {
	plenty := Space{Free: 1 << 30, Total: 2 << 30, Files: 1 << 20, MaxFiles: 2 << 20}
	with := func(change func(*Space)) Space {
		s := plenty
		change(&s)
		return s
	}
	tests := []struct {
		name  string
		space Space
		short bool
		want  string // part of the text; empty: nothing is missing
	}{
		{"plenty", plenty, false, ""},
		{"little", with(func(s *Space) { s.Free = lowSpace - 1 }), false, "31 MiB of 2048 MiB"},
		{"just enough", with(func(s *Space) { s.Free = lowSpace }), false, ""},
		{"just enough again is not enough", with(func(s *Space) { s.Free = lowSpace }), true, "48 MiB are needed"},
		{"enough again", with(func(s *Space) { s.Free = enoughSpace }), true, ""},
		{"nothing", with(func(s *Space) { s.Free = 0 }), false, "0 KiB"},
		{"no inodes", with(func(s *Space) { s.Files = 3 }), false, "3 of 2097152 inodes"},
		{"no inodes to count", with(func(s *Space) { s.Files, s.MaxFiles = 0, 0 }), false, ""},
		{"read-only", with(func(s *Space) { s.ReadOnly = true }), false, "read-only"},
	}
	for _, tt := range tests {
		if got := tt.space.lack(tt.short); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestRefusalComesAndGoes takes the space away and gives it back, and then only the reserve, as a quota would.
func TestRefusalComesAndGoes(t *testing.T) {
	space, reserve := Space{Free: 1 << 30, Total: 2 << 30}, error(nil)
	w := New(Config{Dir: "/data", Look: func() (Space, error) { return space, nil }, Reserve: func() error { return reserve }})
	expect := func(when, want string) {
		t.Helper()
		w.look()
		err := w.Refusal()
		if (err == nil) != (want == "") || err != nil && !(strings.Contains(err.Error(), want) && strings.Contains(err.Error(), "/data")) {
			t.Errorf("%s: %v, want %q", when, err, want)
		}
		if (w.Trouble() == "") != (want == "") {
			t.Errorf("%s: trouble %q", when, w.Trouble())
		}
	}
	expect("with room", "")
	space.Free = 1 << 20
	expect("full", "make room")
	space.Free = lowSpace + 1
	expect("hardly any", "make room")
	space.Free = 1 << 30
	expect("with room again", "")
	reserve = syscall.EDQUOT
	expect("behind a quota", "quota")
	if !errors.Is(w.Refusal(), syscall.EDQUOT) {
		t.Errorf("the cause is lost: %v", w.Refusal())
	}
	reserve = nil
	expect("with a larger quota", "")
}
