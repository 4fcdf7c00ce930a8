package printer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

type thing struct {
	Name  string `json:"name"`
	Sizes []int  `json:"sizes,omitempty"`
	Age   int    `json:"-"`
}

func table(w io.Writer, t thing) error {
	_, err := fmt.Fprintf(w, "NAME  AGE\n%s  %d\n", t.Name, t.Age)
	return err
}

func TestOnce(t *testing.T) {
	for _, tt := range []struct {
		format Format
		want   string
	}{
		{Table, "NAME  AGE\na  1\n"},
		{JSON, "{\n  \"name\": \"a\",\n  \"sizes\": [\n    1\n  ]\n}\n"},
		{YAML, "name: a\nsizes:\n- 1\n"},
	} {
		var out bytes.Buffer
		s := Source[thing]{Get: func(context.Context) (thing, error) { return thing{"a", []int{1}, 1}, nil }, Table: table}
		if _, err := Print(t.Context(), Out{Flags: Flags{Format: tt.format}, To: &out}, s); err != nil || out.String() != tt.want {
			t.Errorf("%s: %v, %q", tt.format, err, out.String())
		}
	}
}

func TestNoneIsAnEmptyList(t *testing.T) {
	for format, want := range map[Format]string{JSON: "[]\n", YAML: "[]\n"} {
		var out bytes.Buffer
		s := Source[[]thing]{Get: func(context.Context) ([]thing, error) { return nil, nil }}
		if _, err := Print(t.Context(), Out{Flags: Flags{Format: format}, To: &out}, s); err != nil || out.String() != want {
			t.Errorf("%s: %v, %q", format, err, out.String())
		}
	}
}

func TestFormatOfNoName(t *testing.T) {
	f := Table
	if err := f.Set("jsn"); err == nil || !strings.Contains(err.Error(), "table, json or yaml") || f != Table {
		t.Errorf("%v, %s", err, f)
	}
}

// watched is what is printed of a source that gives answers one after the other; then the watch is ended.
func watched(t *testing.T, o Out, answers ...any) (out, problems string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var to, wrong bytes.Buffer
	o.To, o.Problems, o.Period, o.Watch = &to, &wrong, time.Microsecond, true
	asked := 0
	_, err := Print(ctx, o, Source[thing]{Table: table, Get: func(ctx context.Context) (thing, error) {
		if asked == len(answers) {
			cancel()
			return thing{}, context.Cause(ctx)
		}
		asked++
		switch answer := answers[asked-1].(type) {
		case thing:
			return answer, nil
		default:
			return thing{}, answer.(error)
		}
	}})
	if err != nil {
		t.Errorf("it ended with %v", err)
	}
	return to.String(), wrong.String()
}

func TestWatchPrintsWhatChanged(t *testing.T) {
	a, older, b, down := thing{Name: "a", Age: 1}, thing{Name: "a", Age: 2}, thing{Name: "b", Age: 3}, errors.New("no server runs")
	for _, tt := range []struct {
		name           string
		out            Out
		want, problems string
	}{
		{"pipe", Out{Flags: Flags{Format: Table}}, "NAME  AGE\na  1\n\nNAME  AGE\nb  3\n\nNAME  AGE\nb  3\n", "no server runs\n"},
		{"terminal", Out{Flags: Flags{Format: Table}, Terminal: true},
			clearScreen + "NAME  AGE\na  1\n" + clearScreen + "NAME  AGE\na  2\n" + strings.Repeat(clearScreen+"NAME  AGE\nb  3\n", 2), "no server runs\n"},
		{"json", Out{Flags: Flags{Format: JSON}, Terminal: true}, "{\"name\":\"a\"}\n{\"name\":\"b\"}\n{\"name\":\"b\"}\n", "no server runs\n"},
		{"yaml", Out{Flags: Flags{Format: YAML}}, "---\nname: a\n---\nname: b\n---\nname: b\n", "no server runs\n"},
	} {
		out, problems := watched(t, tt.out, a, a, older, b, b, down, down, b)
		if out != tt.want || problems != tt.problems {
			t.Errorf("%s:\n%q\n%q", tt.name, out, problems)
		}
	}
}

func TestWatchThatCannotBegin(t *testing.T) {
	_, err := Print(t.Context(), Out{Flags: Flags{Format: Table, Watch: true}}, Source[thing]{Get: func(context.Context) (thing, error) {
		return thing{}, errors.New("no server runs")
	}})
	if err == nil {
		t.Error("it went on")
	}
}
