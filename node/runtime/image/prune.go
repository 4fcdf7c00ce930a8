package image

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Pinned says whether an image stays until somebody removes it: it was imported by hand, or an alias leads to it.
func (s *Store) Pinned(img Image) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pinned(img)
}

func (s *Store) pinned(img Image) bool {
	return !img.Pulled && len(img.Tags) > 0 || s.aliased(img)
}

func (s *Store) aliased(img Image) bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(s.aliases)), func(target string) bool {
		return slices.Contains(img.Tags, target) || slices.Contains(img.Digests, target)
	})
}

// Prune removes the images that no container uses: those that were pulled, and with all those that were imported. What an
// alias leads to stays. It gives what was removed, and how many bytes that has freed.
func (s *Store) Prune(all bool, users []Use) (removed []Image, freed int64, err error) {
	err = s.locked(func() error {
		var kept []Image
		for _, img := range s.images {
			used := slices.ContainsFunc(users, func(u Use) bool { return slices.Contains(u.IDs, img.ID) })
			if used || s.aliased(img) || s.pinned(img) && !all {
				kept = append(kept, img)
			} else {
				removed = append(removed, img)
			}
		}
		if len(removed) == 0 {
			return s.sweep()
		}
		if err := s.save(kept); err != nil {
			removed = nil
			return err
		}
		freed = s.unused()
		return s.sweep()
	})
	return removed, freed, err
}

// unused is how much of the disk is taken by layers that no image uses.
func (s *Store) unused() (size int64) {
	used := s.used()
	entries, _ := os.ReadDir(filepath.Join(s.dir, "layers"))
	for _, e := range entries {
		if path := filepath.Join(s.dir, "layers", e.Name()); !used[path] {
			size += onDisk(path)
		}
	}
	return size
}

// onDisk is how much of the disk a file or directory takes.
func onDisk(path string) (size int64) {
	filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		var s unix.Stat_t
		if err == nil && unix.Lstat(path, &s) == nil {
			size += s.Blocks * 512 / int64(max(s.Nlink, 1))
		}
		return nil
	})
	return size
}

// Tidy removes what no image needs and what interrupted imports and pulls left, unless somebody is at the store.
func (s *Store) Tidy() error {
	err := s.try(s.tidy)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // who is at it tidies up
	}
	return err
}
