package volume

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	dataLink = "..data"     // points at the directory of the present state
	newLink  = "..data_new" // takes its place by a rename
)

// write makes dir hold exactly files. Readers go through dataLink and see the change at once and whole. It
// is the layout that Kubernetes documents for these volumes, so that programs that watch ..data work.
func (m *Manager) write(dir string, files map[string]file, gid *int64) error {
	sum := hash(files, gid)
	m.mu.Lock()
	known := m.written[dir]
	m.mu.Unlock()
	if known == sum || same(dir, files) {
		m.remember(dir, sum)
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	stamp := time.Now().UTC().Format("..2006_01_02_15_04_05.000000000")
	if err := writeState(filepath.Join(dir, stamp), files, gid); err != nil {
		return errors.Join(err, os.RemoveAll(filepath.Join(dir, stamp)))
	}
	before, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := replaceLink(dir, stamp); err != nil {
		return err
	}
	if err := linkNames(dir, files); err != nil {
		return err
	}
	if before != "" {
		if err := os.RemoveAll(filepath.Join(dir, filepath.Base(before))); err != nil {
			return err
		}
	}
	m.remember(dir, sum)
	return nil
}

func (m *Manager) remember(dir string, sum uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written[dir] = sum
}

func hash(files map[string]file, gid *int64) uint64 {
	h := fnv.New64a()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%q %o %q\n", path, files[path].mode, files[path].data)
	}
	if gid != nil {
		fmt.Fprintf(h, "group %d", *gid)
	}
	return h.Sum64()
}

// same says whether the present state on disk is already the wanted one.
func same(dir string, files map[string]file) bool {
	root := filepath.Join(dir, dataLink)
	count := 0
	resolved, err := filepath.EvalSymlinks(root)
	if err != nil {
		return false
	}
	err = filepath.WalkDir(resolved, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(resolved, path)
		if err != nil {
			return err
		}
		want, ok := files[rel]
		if !ok {
			return fs.ErrExist
		}
		have, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, want.data) {
			return fs.ErrExist
		}
		count++
		return nil
	})
	return err == nil && count == len(files)
}

// writeState writes a whole state into a directory of its own.
func writeState(dir string, files map[string]file, gid *int64) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for path, f := range files {
		if parent := filepath.Dir(path); parent != "." {
			if err := root.MkdirAll(parent, 0o755); err != nil {
				return err
			}
		}
		mode := fs.FileMode(f.mode) & fs.ModePerm
		if err := root.WriteFile(path, f.data, 0o600); err != nil {
			return err
		}
		if gid != nil {
			if err := root.Chown(path, -1, int(*gid)); err != nil {
				return err
			}
			mode |= 0o440
		}
		// The umask must not narrow the mode that the pod asks for.
		if err := root.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}

func replaceLink(dir, target string) error {
	fresh := filepath.Join(dir, newLink)
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, filepath.Join(dir, dataLink))
}

// linkNames makes the names that containers read point through dataLink, and removes those of files that
// are gone.
func linkNames(dir string, files map[string]file) error {
	tops := map[string]bool{}
	for path := range files {
		top, _, _ := strings.Cut(path, string(filepath.Separator))
		tops[top] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if tops[name] {
			delete(tops, name)
		} else if !strings.HasPrefix(name, "..") && !e.IsDir() { // a directory is a mount point for another volume
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for name := range tops {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
