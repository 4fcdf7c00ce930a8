package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const maxLinks = 255 // symbolic links on the way; Linux itself follows 40

// resolve follows path within root, symbolic links included, none of which leads out of root. It gives the
// path in the caller's view and whether it exists; what is missing is taken as it is written.
func resolve(root, path string) (string, bool, error) {
	rest := strings.Split(filepath.Clean("/"+path), "/")
	current, links, exists := "/", 0, true
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			current = filepath.Dir(current)
			continue
		}
		next := filepath.Join(current, name)
		info, err := os.Lstat(filepath.Join(root, next))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			exists = false
		case err != nil:
			return "", false, fmt.Errorf("resolve %s: %w", path, err)
		case info.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return "", false, fmt.Errorf("resolve %s: too many symbolic links", path)
			}
			link, err := os.Readlink(filepath.Join(root, next))
			if err != nil {
				return "", false, fmt.Errorf("resolve %s: %w", path, err)
			}
			if filepath.IsAbs(link) {
				current = "/"
			}
			rest = append(strings.Split(link, "/"), rest...)
			continue
		}
		current = next
	}
	return filepath.Join(root, current), exists, nil
}
