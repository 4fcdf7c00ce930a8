package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// summarize feeds events to a Summary as JSON lines and returns it with what it wrote.
func summarize(lines ...string) (*Summary, string) {
	var out bytes.Buffer
	s := NewSummary(&out)
	for _, l := range lines {
		s.Line([]byte(l + "\n"))
	}
	s.Close()
	return s, out.String()
}

type summaryCase struct {
	name   string
	events []string
	last   string   // the last line
	want   []string // words that must be there
	avoid  []string
}

func testCases() []summaryCase {
	return []summaryCase{{
		name: "subtests are counted, their parent is not",
		events: []string{
			`{"Action":"run","Package":"p","Test":"TestA"}`,
			`{"Action":"output","Package":"p","Test":"TestA/one","Output":"chatter\n"}`,
			`{"Action":"pass","Package":"p","Test":"TestA/one"}`,
			`{"Action":"pass","Package":"p","Test":"TestA/two"}`,
			`{"Action":"pass","Package":"p","Test":"TestA"}`,
			`{"Action":"pass","Package":"p","Test":"TestB"}`,
			`{"Action":"pass","Package":"p","Elapsed":1.5}`,
		},
		last:  "3 passed, 0 failed",
		want:  []string{"ok    p", "1.5s", "3 tests"},
		avoid: []string{"chatter"},
	}, {
		name: "parts of a name with slashes are no tests",
		events: []string{
			`{"Action":"run","Package":"p","Test":"TestA"}`,
			`{"Action":"run","Package":"p","Test":"TestA/echo/usr/share"}`,
			`{"Action":"pass","Package":"p","Test":"TestA/echo/usr/share"}`,
			`{"Action":"output","Package":"p","Test":"TestA","Output":"after the subtests\n"}`,
			`{"Action":"fail","Package":"p","Test":"TestA"}`,
			`{"Action":"fail","Package":"p"}`,
		},
		last:  "1 passed, 1 failed",
		want:  []string{"FAIL  p.TestA (", "after the subtests"},
		avoid: []string{"p.TestA/echo"},
	}, {
		name: "a failing subtest counts once and shows its output",
		events: []string{
			`{"Action":"output","Package":"p","Test":"TestA/one","Output":"    a_test.go:7: got 1\n"}`,
			`{"Action":"fail","Package":"p","Test":"TestA/one"}`,
			`{"Action":"fail","Package":"p","Test":"TestA"}`,
			`{"Action":"fail","Package":"p","Elapsed":0.1}`,
		},
		last: "0 passed, 1 failed",
		want: []string{"FAIL  p.TestA/one", "a_test.go:7: got 1"},
	}, {
		name: "a parent that fails by itself counts",
		events: []string{
			`{"Action":"pass","Package":"p","Test":"TestA/one"}`,
			`{"Action":"output","Package":"p","Test":"TestA","Output":"after the subtests\n"}`,
			`{"Action":"fail","Package":"p","Test":"TestA"}`,
			`{"Action":"fail","Package":"p"}`,
		},
		last: "1 passed, 1 failed",
		want: []string{"after the subtests"},
	}, {
		name: "a test that never ended",
		events: []string{
			`{"Action":"run","Package":"p","Test":"TestHang"}`,
			`{"Action":"output","Package":"p","Test":"TestHang","Output":"panic: test timed out\n"}`,
			`{"Action":"fail","Package":"p"}`,
		},
		last: "0 passed, 1 failed",
		want: []string{"FAIL  p.TestHang", "test timed out"},
	}, {
		name: "a skipped test gives its reason",
		events: []string{
			`{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}`,
			`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:9: needs root\n"}`,
			`{"Action":"skip","Package":"p","Test":"TestA"}`,
			`{"Action":"pass","Package":"p"}`,
		},
		last: "0 passed, 0 failed, 1 skipped",
		want: []string{"skip  p.TestA: a_test.go:9: needs root"},
	}}
}

func packageCases() []summaryCase {
	return []summaryCase{{
		name: "a package that does not build",
		events: []string{
			`{"ImportPath":"p [p.test]","Action":"build-output","Output":"p.go:3: undefined: x\n"}`,
			`{"ImportPath":"p [p.test]","Action":"build-fail"}`,
			`{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
		},
		last: "0 passed, 1 failed",
		want: []string{"p does not build", "undefined: x"},
	}, {
		name: "a panic outside of any test",
		events: []string{
			`{"Action":"output","Package":"p","Output":"panic: in TestMain\n"}`,
			`{"Action":"fail","Package":"p"}`,
		},
		last: "0 passed, 1 failed",
		want: []string{"panic: in TestMain"},
	}, {
		name:   "a package that never ended",
		events: []string{`{"Action":"start","Package":"p"}`},
		last:   "0 passed, 1 failed",
		want:   []string{"p (did not end)"},
	}, {
		name:   "a line that is no event passes through",
		events: []string{"go: downloading something"},
		last:   "0 passed, 0 failed",
		want:   []string{"go: downloading something"},
	}}
}

func TestSummaryCounts(t *testing.T) {
	for _, tt := range slices.Concat(testCases(), packageCases()) {
		t.Run(tt.name, func(t *testing.T) {
			_, got := summarize(tt.events...)
			lines := strings.Split(strings.TrimRight(got, "\n"), "\n")
			if last := lines[len(lines)-1]; last != tt.last {
				t.Errorf("last line %q, want %q", last, tt.last)
			}
			for _, w := range tt.want {
				if !strings.Contains(got, w) {
					t.Errorf("missing %q in\n%s", w, got)
				}
			}
			for _, w := range tt.avoid {
				if strings.Contains(got, w) {
					t.Errorf("unwanted %q in\n%s", w, got)
				}
			}
		})
	}
}

func TestRunReportsTheCommandsFailure(t *testing.T) {
	tests := []struct {
		script string
		failed bool
	}{
		{`echo '{"Action":"pass","Package":"p","Test":"TestA"}'; echo '{"Action":"pass","Package":"p"}'`, false},
		{`echo '{"Action":"pass","Package":"p","Test":"TestA"}'; echo '{"Action":"pass","Package":"p"}'; exit 2`, true},
		{`echo '{"Action":"fail","Package":"p"}'`, true},
	}
	for _, tt := range tests {
		var out, errOut bytes.Buffer
		failed, err := run([]string{"--", "sh", "-c", tt.script}, &out, &errOut)
		if err != nil || failed != tt.failed {
			t.Errorf("%s: failed %v, %v, want %v", tt.script, failed, err, tt.failed)
		}
	}
	if _, err := run([]string{"--"}, &bytes.Buffer{}, &bytes.Buffer{}); err == nil {
		t.Error("no command: no error")
	}
}
