package shim

import (
	"os"
	"path/filepath"
	"testing"
)

// TestNothingIsWrittenBesideANewLog: once the new file is there the old one has all that it will ever have, so that whoever
// follows the log and goes over to the new one misses nothing.
func TestNothingIsWrittenBesideANewLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := l.write("stdout", "F", []byte("a line")); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	size := func(path string) (int64, bool) {
		info, err := os.Stat(path)
		if err != nil {
			return 0, false
		}
		return info.Size(), true
	}
	for range 200 {
		old := path + ".old"
		if err := os.Rename(path, old); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- l.reopen() }()
		for {
			if _, there := size(path); there {
				break
			}
		}
		seen, _ := size(old)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if last, _ := size(old); last != seen {
			t.Fatalf("the old file had %d octets when the new one appeared, and has %d", seen, last)
		}
	}
	close(stop)
	<-stopped
}
