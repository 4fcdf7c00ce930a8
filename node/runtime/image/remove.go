package image

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Use is a container that needs an image.
type Use struct {
	Container string   // as people know it: "main of pod default/web"
	IDs       []string // of the images that it runs and mounts
	Refs      []string // by which its pod asks for them
}

// Remove removes an alias or a name of an image, and with its last name the image and the layers that no other uses.
// An ID stands for all names. It refuses what one of users needs; fs.ErrNotExist says that there is nothing of that name.
func (s *Store) Remove(ref string, users []Use) error {
	if Builtin(ref) != "" {
		return fmt.Errorf("image %s is part of svcplane and can't be removed", ref)
	}
	return s.locked(func() error {
		full := ref
		if parsed, err := name.ParseReference(ref); err == nil {
			full = parsed.Name()
		}
		if _, ok := s.aliases[full]; ok {
			if err := inUse(ref, users, func(u Use) bool { return u.asksFor(full) }); err != nil {
				return err
			}
			return s.dropAlias(full)
		}
		img, err := s.get(ref)
		if err != nil {
			return err
		}
		return s.removeName(ref, full, img, users)
	})
}

// removeName takes one name from an image, or all if it is not one of its names.
func (s *Store) removeName(ref, full string, img Image, users []Use) error {
	left := slices.DeleteFunc(slices.Clone(img.Tags), func(tag string) bool { return tag == full || !slices.Contains(img.Tags, full) })
	if err := inUse(ref, users, func(u Use) bool { return slices.Contains(u.IDs, img.ID) && (len(left) == 0 || u.asksFor(full)) }); err != nil {
		return err
	}
	for alias, target := range s.aliases {
		named := target == full || !slices.Contains(img.Tags, full) && slices.Contains(img.Tags, target)
		if named || len(left) == 0 && slices.Contains(img.Digests, target) {
			return fmt.Errorf("image %s is what %s is an alias of; remove that first: svcplane image rm %s", ref, alias, alias)
		}
	}
	kept := slices.DeleteFunc(slices.Clone(s.images), func(i Image) bool { return i.ID == img.ID })
	if len(left) > 0 {
		img.Tags = left
		kept = append(kept, img)
	}
	if err := s.save(kept); err != nil {
		return err
	}
	return s.sweep()
}

func (u Use) asksFor(full string) bool {
	return slices.ContainsFunc(u.Refs, func(ref string) bool {
		parsed, err := name.ParseReference(ref)
		return err == nil && parsed.Name() == full
	})
}

// InUse says which containers keep an image from being removed.
type InUse struct {
	Ref        string
	Containers []string
}

func (e InUse) Error() string {
	return fmt.Sprintf("image %s is used by container %s; delete the pod first", e.Ref, strings.Join(e.Containers, ", by container "))
}

func inUse(ref string, users []Use, needs func(Use) bool) error {
	refused := InUse{Ref: ref}
	for _, u := range users {
		if needs(u) {
			refused.Containers = append(refused.Containers, u.Container)
		}
	}
	if len(refused.Containers) == 0 {
		return nil
	}
	slices.Sort(refused.Containers)
	return refused
}
