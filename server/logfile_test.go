package server

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLogFileIsMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if _, err := l.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(file, want string) {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v; want %q", file, got, err, want)
		}
	}
	write("one\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("two\n")
	if err := l.reopen(); err != nil {
		t.Fatal(err)
	}
	write("three\n")
	holds(path+".1", "one\ntwo\n")
	holds(path, "three\n")
	l.path = filepath.Join(path, "below a file")
	if err := l.reopen(); err == nil {
		t.Error("a log that cannot be made is no error")
	}
	write("four\n")
	holds(path, "three\nfour\n")
}
