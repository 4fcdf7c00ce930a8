package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Names with which a layer says that something of a lower one is gone (OCI image-spec, layer.md).
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// unpackVerified unpacks a layer into dir, which is made, and compares the digest of what was read.
func unpackVerified(content io.Reader, dir string, want v1.Hash) error {
	hash := sha256.New()
	tee := io.TeeReader(content, hash)
	if err := unpackLayer(tee, dir); err != nil {
		return err
	}
	// What follows the end of the archive counts for the digest, too.
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want.Hex {
		return fmt.Errorf("it is corrupt: its digest is sha256:%s, not %s; make the archive again", got, want)
	}
	return nil
}

// unpackLayer unpacks a layer's tar into dir. Names that lead out of dir are refused, symbolic links are
// stored but never followed out of it, device nodes are left out (a container's /dev is made for it).
func unpackLayer(content io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer root.Close()
	u := &unpacker{root: root, times: map[string]time.Time{}}
	reader := tar.NewReader(content)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if err := u.entry(header, reader); err != nil {
			return fmt.Errorf("unpack %q: %w", header.Name, err)
		}
	}
	return u.finish(dir)
}

type unpacker struct {
	root  *os.Root
	times map[string]time.Time // of directories, set when nothing changes in them any more
}

func (u *unpacker) entry(header *tar.Header, content io.Reader) error {
	path := clean(header.Name)
	if !filepath.IsLocal(path) {
		return errors.New("the name leads out of the image")
	}
	parent, base := filepath.Dir(path), filepath.Base(path)
	if path != "." {
		if err := u.root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	if base == whiteoutOpaque {
		return u.opaque(parent)
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		return u.whiteout(parent, hidden)
	}
	made, err := u.make(header, path, content)
	if err != nil || !made {
		return err
	}
	return u.attributes(header, path)
}

// whiteout makes the device that hides a name of the layers below (overlayfs, kernel documentation).
func (u *unpacker) whiteout(parent, name string) error {
	if name == "" || name == "." || name == ".." {
		return errors.New("a whiteout of no name")
	}
	// What the layer itself has of that name stays; of a directory it is the lower contents that go.
	switch info, err := u.root.Lstat(filepath.Join(parent, name)); {
	case err == nil && info.IsDir():
		return u.opaque(filepath.Join(parent, name))
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return u.inDir(parent, func(fd int) error { return unix.Mknodat(fd, name, unix.S_IFCHR, 0) })
}

// opaque hides the contents that a directory has in the layers below.
func (u *unpacker) opaque(dir string) error {
	return u.inDir(dir, func(fd int) error { return unix.Fsetxattr(fd, "trusted.overlay.opaque", []byte("y"), 0) })
}

// inDir opens a directory below the root and runs fn on it.
func (u *unpacker) inDir(path string, fn func(fd int) error) error {
	dir, err := u.root.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return fn(int(dir.Fd()))
}

// make makes one entry, whether or not there was one of that name; whether attributes are to be set.
func (u *unpacker) make(header *tar.Header, path string, content io.Reader) (bool, error) {
	old, err := u.root.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if header.Typeflag == tar.TypeDir {
		if err == nil && old.IsDir() {
			return true, nil
		}
		return true, u.directory(path, old)
	}
	if path == "." {
		return false, errors.New("the image's root is no directory")
	}
	if err == nil {
		if err := u.root.RemoveAll(path); err != nil {
			return false, err
		}
	}
	switch header.Typeflag {
	case tar.TypeReg:
		return true, u.file(path, content)
	case tar.TypeSymlink:
		return true, u.root.Symlink(header.Linkname, path)
	case tar.TypeLink:
		target := clean(header.Linkname)
		if !filepath.IsLocal(target) {
			return false, fmt.Errorf("the hard link's target %q leads out of the image", header.Linkname)
		}
		return false, u.root.Link(target, path)
	case tar.TypeFifo:
		return true, u.inDir(filepath.Dir(path), func(fd int) error { return unix.Mknodat(fd, filepath.Base(path), unix.S_IFIFO|0o600, 0) })
	case tar.TypeChar, tar.TypeBlock, tar.TypeXGlobalHeader:
		return false, nil
	}
	return false, fmt.Errorf("entries of type %q are not known", header.Typeflag)
}

// directory makes a directory in place of old, which may be nil. In place of a whiteout it hides, too, what
// the layers below have there.
func (u *unpacker) directory(path string, old fs.FileInfo) error {
	if old != nil {
		if err := u.root.Remove(path); err != nil {
			return err
		}
	}
	if err := u.root.Mkdir(path, 0o755); err != nil {
		return err
	}
	if old != nil && old.Mode()&fs.ModeCharDevice != 0 {
		return u.opaque(path)
	}
	return nil
}

func (u *unpacker) file(path string, content io.Reader) error {
	f, err := u.root.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// attributes sets owner, mode, extended attributes and time, in the order in which none undoes another.
func (u *unpacker) attributes(header *tar.Header, path string) error {
	if err := u.root.Lchown(path, header.Uid, header.Gid); err != nil {
		return err
	}
	if header.Typeflag == tar.TypeSymlink {
		return nil
	}
	if err := u.root.Chmod(path, header.FileInfo().Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	if capability, ok := header.PAXRecords["SCHILY.xattr.security.capability"]; ok && header.Typeflag == tar.TypeReg {
		if err := u.inDir(path, func(fd int) error { return unix.Fsetxattr(fd, "security.capability", []byte(capability), 0) }); err != nil {
			return fmt.Errorf("set file capabilities: %w", err)
		}
	}
	if header.Typeflag == tar.TypeDir {
		u.times[path] = header.ModTime
		return nil
	}
	return u.root.Chtimes(path, header.ModTime, header.ModTime)
}

// finish sets the directories' times and forces all to the disk: an index that names the layer must not
// survive a crash that its files did not.
func (u *unpacker) finish(dir string) error {
	for path, at := range u.times {
		if err := u.root.Chtimes(path, at, at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("unpack %q: %w", path, err)
		}
	}
	return u.inDir(".", func(fd int) error {
		if err := unix.Syncfs(fd); err != nil {
			return fmt.Errorf("write %s to the disk: %w", dir, err)
		}
		return nil
	})
}
