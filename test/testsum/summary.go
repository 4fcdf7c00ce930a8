package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Event is one line of `go test -json` (go doc test2json, and `go help buildjson` for the build ones).
type Event struct {
	Action      string
	Package     string
	ImportPath  string // build events name the package here
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// Summary writes a readable stream of the events it is given, and counts.
type Summary struct {
	Passed, Failed, Skipped int

	out      io.Writer
	packages map[string]*pack
	builds   map[string]*bytes.Buffer // build output by import path
	failures []string
}

// pack is a package under test.
type pack struct {
	tests  map[string]*test
	output bytes.Buffer // what it printed outside of any test
	passed int
	failed int
}

type test struct {
	output   bytes.Buffer
	action   string
	begun    bool // it has an event: a name like "dir/usr/share" has parts that are no tests
	children bool
	elapsed  float64
}

// NewSummary returns a Summary that writes to out.
func NewSummary(out io.Writer) *Summary {
	return &Summary{out: out, packages: map[string]*pack{}, builds: map[string]*bytes.Buffer{}}
}

// Line takes one line of the stream. A line that is no event is passed on as it is: go prints some of its own.
func (s *Summary) Line(line []byte) {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		s.out.Write(line)
		return
	}
	switch {
	case strings.HasPrefix(e.Action, "build-"):
		s.build(e)
	case e.Test != "":
		s.test(e)
	default:
		s.pack(e)
	}
}

func (s *Summary) build(e Event) {
	b := s.builds[e.ImportPath]
	if b == nil {
		b = &bytes.Buffer{}
		s.builds[e.ImportPath] = b
	}
	b.WriteString(e.Output)
}

func (s *Summary) packageOf(e Event) *pack {
	p := s.packages[e.Package]
	if p == nil {
		p = &pack{tests: map[string]*test{}}
		s.packages[e.Package] = p
	}
	return p
}

func (p *pack) testOf(name string) *test {
	t := p.tests[name]
	if t == nil {
		t = &test{}
		p.tests[name] = t
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			p.testOf(name[:i]).children = true
		}
	}
	return t
}

func (s *Summary) test(e Event) {
	p := s.packageOf(e)
	t := p.testOf(e.Test)
	t.begun = true
	switch e.Action {
	case "output":
		t.output.WriteString(e.Output)
	case "pass", "fail", "skip":
		t.action, t.elapsed = e.Action, e.Elapsed
	}
	if e.Action == "pass" {
		t.output.Reset()
	}
}

// pack handles what concerns a whole package; its end is when its tests are counted, since only then is it known which
// of them had subtests.
func (s *Summary) pack(e Event) {
	p := s.packageOf(e)
	switch e.Action {
	case "output":
		p.output.WriteString(e.Output)
	case "pass", "skip":
		s.end(e, p)
		if p.passed > 0 {
			fmt.Fprintf(s.out, "ok    %-40s %7.1fs  %d tests\n", e.Package, e.Elapsed, p.passed)
		}
		delete(s.packages, e.Package)
	case "fail":
		s.end(e, p)
		s.failPackage(e, p)
		delete(s.packages, e.Package)
	}
}

// end counts the tests of a package and prints the failing and the skipped ones.
func (s *Summary) end(e Event, p *pack) {
	for _, name := range sortedKeys(p.tests) {
		t := p.tests[name]
		full := strings.TrimPrefix(e.Package, "svcplane/") + "." + name
		switch {
		case t.action == "pass" && !t.children:
			p.passed++
		case t.action == "skip":
			s.Skipped++
			fmt.Fprintf(s.out, "skip  %s: %s\n", full, reason(t.output.String()))
		case t.action == "fail" && (!t.children || !p.failedBelow(name)), t.begun && t.action == "":
			// a test without an end was running when its package died
			p.failed++
			s.failures = append(s.failures, full)
			fmt.Fprintf(s.out, "\nFAIL  %s (%.1fs)\n%s\n", full, t.elapsed, indent(t.output.String()))
		}
	}
	s.Passed += p.passed
	s.Failed += p.failed
}

func (p *pack) failedBelow(name string) bool {
	for other, t := range p.tests {
		if strings.HasPrefix(other, name+"/") && t.begun && t.action != "pass" && t.action != "skip" {
			return true
		}
	}
	return false
}

func (s *Summary) failPackage(e Event, p *pack) {
	if p.failed == 0 {
		s.Failed++
		s.failures = append(s.failures, e.Package)
		if b := s.builds[cmp.Or(e.FailedBuild, e.Package)]; b != nil {
			fmt.Fprintf(s.out, "\nFAIL  %s does not build\n%s\n", e.Package, indent(b.String()))
		}
	}
	// a panic or an os.Exit in TestMain leaves its words outside of any test
	if text := p.output.String(); strings.TrimSpace(text) != "FAIL" {
		fmt.Fprint(s.out, indent(text))
	}
	fmt.Fprintf(s.out, "FAIL  %-40s %7.1fs  %d tests, %d failed\n", e.Package, e.Elapsed, p.passed+p.failed, p.failed)
}

// Close ends the stream with the names of what failed and the count. Packages that never ended are failures.
func (s *Summary) Close() {
	for _, name := range sortedKeys(s.packages) {
		s.end(Event{Package: name}, s.packages[name])
		s.Failed++
		s.failures = append(s.failures, name+" (did not end)")
	}
	if len(s.failures) > 0 {
		fmt.Fprintf(s.out, "\nfailed:\n")
		for _, f := range s.failures {
			fmt.Fprintf(s.out, "  %s\n", f)
		}
	}
	fmt.Fprintf(s.out, "%d passed, %d failed", s.Passed, s.Failed)
	if s.Skipped > 0 {
		fmt.Fprintf(s.out, ", %d skipped", s.Skipped)
	}
	fmt.Fprintln(s.out)
}
