package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLogFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pod/container/0.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 20<<10)
	if _, err := log.Write([]byte("a line\nanother\n")); err != nil {
		t.Fatal(err)
	}
	log.copy("stderr", strings.NewReader("one\n\n"+long+"\nlast without newline"))
	log.close()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	text := ""
	for line := range strings.Lines(string(raw)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if _, err := time.Parse(time.RFC3339Nano, parts[0]); err != nil || len(parts) != 4 {
			t.Fatalf("line %q: %v", line, err)
		}
		got = append(got, parts[1]+" "+parts[2])
		text += parts[3]
		if parts[2] == "F" {
			text += "\n"
		}
	}
	if want := "a line\nanother\none\n\n" + long + "\nlast without newline"; text != want {
		t.Errorf("the text that was logged is not the text that was written (%d and %d bytes)", len(text), len(want))
	}
	if want := "stdout F,stdout F,stderr F,stderr F,stderr P,stderr F,stderr P"; strings.Join(got, ",") != want {
		t.Errorf("streams and tags are %v, want %s", got, want)
	}
}
