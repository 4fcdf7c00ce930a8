package serve

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestLinesOfTheAccessLog(t *testing.T) {
	if got := string((&logEntry{Client: "192.0.2.1", Method: "GET", Path: "/", Proto: "HTTP/1.1", Code: 200, Agent: "a\"\nb"}).combined()); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"GET / HTTP/1.1" 200 0 "-" "a\"\nb"`) {
		t.Errorf("combined: %q", got)
	}
	unseen := "a\x7f\u009b31m\u202e\U000e0041\x1b\n\xffé"
	var log bytes.Buffer
	var e logEntry
	if l, err := newAccessLog(&log, LogJSON, 1); err != nil {
		t.Fatal(err)
	} else {
		l.write(logEntry{Agent: unseen})
		l.flush()
	}
	if got := log.String(); !strings.Contains(got, `"a\u007f\u009b31m\u202e\udb40\udc41\u001b\n\ufffdé"`) || json.Unmarshal([]byte(got), &e) != nil || e.Agent != strings.ToValidUTF8(unseen, "\ufffd") {
		t.Errorf("JSON: %q", got)
	}
}
