package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// Alias is a reference under which another image, a builtin one or one of the store, is run.
type Alias struct {
	Ref    string // full, such as index.docker.io/library/nginx:latest
	Target string // svcplane/echo, svcplane/host, or a full reference
}

func (s *Store) aliasPath() string { return filepath.Join(s.dir, "aliases.json") }

// loadAliases reads the aliases if they changed.
func (s *Store) loadAliases() error {
	info, err := os.Stat(s.aliasPath())
	if errors.Is(err, fs.ErrNotExist) {
		s.aliases, s.known = nil, time.Time{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the aliases of images: %w", err)
	}
	if info.ModTime().Equal(s.known) {
		return nil
	}
	raw, err := os.ReadFile(s.aliasPath())
	if err != nil {
		return fmt.Errorf("read the aliases of images: %w", err)
	}
	var aliases map[string]string
	if err := json.Unmarshal(raw, &aliases); err != nil {
		return fmt.Errorf("read the aliases of images in %s: %w; move it away and make them again", s.aliasPath(), err)
	}
	s.aliases, s.known = aliases, info.ModTime()
	return nil
}

func (s *Store) saveAliases(aliases map[string]string) error {
	changed, err := s.replace(s.aliasPath(), aliases)
	if err != nil {
		return fmt.Errorf("write the aliases of images: %w", err)
	}
	s.aliases, s.known = aliases, changed
	return nil
}

// Aliases lists the aliases, by their reference.
func (s *Store) Aliases() []Alias {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Alias
	for _, ref := range slices.Sorted(maps.Keys(s.aliases)) {
		list = append(list, Alias{ref, s.aliases[ref]})
	}
	return list
}

// Builtin gives Echo or Host if ref is a name or an alias of that image, else "".
func (s *Store) Builtin(ref string) string {
	if builtin := Builtin(ref); builtin != "" {
		return builtin
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return Builtin(s.aliases[parsed.Name()])
}

// Alias makes pods that ask for ref run target. What target stands for is looked up once if it is an alias itself.
func (s *Store) Alias(ref, target string) (Alias, error) {
	made, err := s.alias(ref, target)
	if err != nil {
		return Alias{}, fmt.Errorf("alias %s of %s: %w", ref, target, err)
	}
	return made, nil
}

func (s *Store) alias(ref, target string) (made Alias, err error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return made, err
	}
	if Builtin(ref) != "" {
		return made, fmt.Errorf("%s is part of svcplane; choose another name", ref)
	}
	return made, s.locked(func() error {
		for _, img := range s.images {
			if slices.Contains(img.Tags, parsed.Name()) {
				return fmt.Errorf("%s is an imported image; remove it first: svcplane image rm %s", ref, ref)
			}
		}
		final, err := s.final(target)
		if err != nil {
			return err
		}
		if final == parsed.Name() {
			return errors.New("an alias can't stand for itself")
		}
		aliases := maps.Clone(s.aliases)
		if aliases == nil {
			aliases = map[string]string{}
		}
		aliases[parsed.Name()] = final
		made = Alias{parsed.Name(), final}
		return s.saveAliases(aliases)
	})
}

// final is what an alias to target leads to: a builtin image, or a reference that the store has.
func (s *Store) final(target string) (string, error) {
	if builtin := Builtin(target); builtin != "" {
		return builtin, nil
	}
	parsed, err := name.ParseReference(target)
	if err != nil {
		return "", err
	}
	if next, ok := s.aliases[parsed.Name()]; ok {
		return next, nil
	}
	if _, err := s.get(target); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s is neither builtin nor in the local store; see svcplane image list", target)
		}
		return "", err
	}
	return parsed.Name(), nil
}

// dropAlias removes an alias, with the store locked; that there is none is no error.
func (s *Store) dropAlias(ref string) error {
	if _, ok := s.aliases[ref]; !ok {
		return nil
	}
	aliases := maps.Clone(s.aliases)
	delete(aliases, ref)
	return s.saveAliases(aliases)
}

// IsAlias says whether a name was given to another image by hand.
func (s *Store) IsAlias(ref string) bool {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.aliases[parsed.Name()]
	return ok
}
