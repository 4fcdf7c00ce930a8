package packaging

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Kinds of entries that have no contents.
const (
	isDir  = "directory"
	isLink = "link"
	isData = "data" // the data directory of the server, which was not made by us
)

// entry is one thing that install has made: the SHA-256 of a file's contents, or its kind, and its path below the root.
type entry struct{ sum, path string }

// list is what install has made, in that order. It lies on the machine as lines "SUM  PATH".
type list struct {
	file    string
	entries []entry
}

// readList is empty where nothing was installed.
func (c *Config) readList() (*list, error) {
	l := &list{file: c.at(listPath)}
	raw, err := os.ReadFile(l.file)
	if errors.Is(err, os.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the list of what was installed: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		sum, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok || !filepath.IsAbs(path) || filepath.Clean(path) != path {
			return nil, fmt.Errorf("the list of what was installed, %s, is damaged at %q: remove that line, or the file, "+
				"and what it names by hand", l.file, line)
		}
		l.entries = append(l.entries, entry{sum, path})
	}
	return l, nil
}

// sum is what the list has for a path, empty if it is not on it.
func (l *list) sum(path string) string {
	for _, e := range l.entries {
		if e.path == path {
			return e.sum
		}
	}
	return ""
}

// put notes a thing, in the place of what was noted for its path, before it is made.
func (l *list) put(e entry) error {
	if slices.Contains(l.entries, e) {
		return nil
	}
	if i := slices.IndexFunc(l.entries, func(o entry) bool {
		return o.path == e.path || o.sum == isData && e.sum == isData
	}); i >= 0 {
		l.entries[i] = e
	} else {
		l.entries = append(l.entries, e)
	}
	var text strings.Builder
	for _, e := range l.entries {
		fmt.Fprintf(&text, "%s  %s\n", e.sum, e.path)
	}
	return writeFile(l.file, []byte(text.String()), 0o644)
}

func sumOf(contents []byte) string {
	sum := sha256.Sum256(contents)
	return hex.EncodeToString(sum[:])
}

// writeFile puts contents in the place of a file at once: who runs or reads the old one goes on with it.
func writeFile(path string, contents []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".svcplane-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = tmp.Write(contents)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
