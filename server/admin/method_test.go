package admin

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

type question struct {
	Name  string `json:"name"`
	Loud  bool   `json:"loud,string"`
	Count int    `json:"count,omitempty,string"`
}

// TestAMethodIsCalled: what is asked arrives as it is, and the answer, or who is to blame for there being none, comes back.
func TestAMethodIsCalled(t *testing.T) {
	dir := t.TempDir()
	s, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	greet := Method[question, []string]{"GET", "/greet"}
	greet.Handle(s, func(_ context.Context, q question) ([]string, error) {
		switch q.Name {
		case "nobody":
			return nil, fmt.Errorf("greeting: %w", Blame(errors.New("that is no name")))
		case "away":
			return nil, errors.New("away is not here")
		}
		return []string{fmt.Sprint(q.Name, q.Loud, q.Count)}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})

	for _, tt := range []struct {
		ask       question
		want      string
		wantError string
		blamed    bool
	}{
		{ask: question{Name: `a "b" & c/ü`, Loud: true, Count: 3}, want: `a "b" & c/ütrue 3`},
		{ask: question{Name: ""}, want: "false 0"},
		{ask: question{Name: "nobody"}, wantError: "greeting: that is no name", blamed: true},
		{ask: question{Name: "away"}, wantError: "away is not here"},
	} {
		got, err := greet.Call(t.Context(), dir, tt.ask)
		if tt.wantError != "" {
			if err == nil || err.Error() != tt.wantError || errors.As(err, new(BadRequest)) != tt.blamed {
				t.Errorf("%+v: %v, want %s; the caller's mistake: %v", tt.ask, err, tt.wantError, tt.blamed)
			}
			continue
		}
		if err != nil || len(got) != 1 || got[0] != tt.want {
			t.Errorf("%+v: %q, %v, want %q", tt.ask, got, err, tt.want)
		}
	}
	if _, err := (Method[None, string]{"GET", "/dns/query"}).Call(t.Context(), dir, None{}); err == nil || err.Error() != "the running server does not have that part: it was started with --disable" {
		t.Errorf("a part that is disabled: %v", err)
	}
	if _, err := (Method[map[string]string, []string]{"GET", "/greet"}).Call(t.Context(), dir, map[string]string{"loud": "perhaps"}); !errors.As(err, new(BadRequest)) {
		t.Errorf("a value that is none: %v", err)
	}
}
