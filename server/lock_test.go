package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataDirectoryHasOneOwner(t *testing.T) {
	top := filepath.Join(t.TempDir(), "made")
	dir := filepath.Join(top, "here")
	first, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory %v, %v", info, err)
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "belongs to a running svcplane (pid ") {
		t.Errorf("second owner: %v", err)
	}
	first.abandon()
	if _, err := os.Stat(top); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("abandoned directory is still there: %v", err)
	}
	if err := os.WriteFile(top, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lockDataDir(dir); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a file in the way: %v", err)
	}
}

func TestAbandonKeepsWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "precious")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.abandon()
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
}
