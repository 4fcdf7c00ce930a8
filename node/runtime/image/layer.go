package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"svcplane/disk"
)

// Names with which a layer says that something of a lower one is gone (OCI image-spec, layer.md).
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// unpackVerified unpacks a layer into dir, which is made, and compares the digest of what was read.
func unpackVerified(content io.Reader, dir string, plain bool, want v1.Hash) error {
	hash := sha256.New()
	keep, err := newKeeper(io.TeeReader(content, hash), keptPath(dir))
	if err != nil {
		return err
	}
	if err := unpackKept(keep, dir, plain, want, hash); err != nil {
		keep.discard()
		return err
	}
	return keep.close()
}

func unpackKept(keep *keeper, dir string, plain bool, want v1.Hash, hash hash.Hash) error {
	if err := unpackLayer(keep, dir, plain, limits{maxLayerBytes, maxLayerEntries}); err != nil {
		return err
	}
	// What follows the end of the archive counts for the digest, too.
	if _, err := io.Copy(io.Discard, keep); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want.Hex {
		return fmt.Errorf("it is corrupt: its digest is sha256:%s, not %s; make the archive again", got, want)
	}
	return nil
}

// unpackLayer unpacks a layer's tar into dir. Names that lead out of dir are refused, symbolic links are
// stored but never followed out of it, device nodes are left out (a container's /dev is made for it).
func unpackLayer(content *keeper, dir string, plain bool, most limits) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer root.Close()
	u := &unpacker{root: root, dir: dir, keep: content, left: most, plain: plain, times: map[string]time.Time{}}
	reader := tar.NewReader(content)
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if err := u.count(header, most); err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		if err := u.entry(header, reader); err != nil {
			return fmt.Errorf("unpack %.200q: %w", header.Name, err)
		}
	}
	return u.finish(dir)
}

// limits bound what a layer unpacks to.
type limits struct {
	bytes   int64
	entries int
}

// What a layer may unpack to is more than of any image that somebody has made to be run: the largest have some ten gigabytes
// of weights in a layer, and some hundred thousand files.
const maxLayerBytes, maxLayerEntries = 64 << 30, 2_000_000

// lookEvery is after how many bytes, or entries, the room on the disk is looked at.
const lookBytes, lookEntries = 16 << 20, 4096

type unpacker struct {
	root  *os.Root
	dir   string
	keep  *keeper
	left  limits
	plain bool                 // whiteouts are files
	since limits               // the last look at the disk
	times map[string]time.Time // of directories, set when nothing changes in them any more
}

// count takes an entry off what is left, before anything of it is written.
func (u *unpacker) count(header *tar.Header, most limits) error {
	if u.left.entries--; u.left.entries < 0 {
		return fmt.Errorf("it has more than %d files", most.entries)
	}
	if regular(header) {
		if u.left.bytes -= header.Size; u.left.bytes < 0 || header.Size > most.bytes {
			return fmt.Errorf("it unpacks to more than %d bytes", most.bytes)
		}
	}
	if u.since.entries++; u.since.entries < lookEntries {
		return nil
	}
	return u.look()
}

// look leaves others some room on the disk.
func (u *unpacker) look() error {
	u.since = limits{}
	return disk.Room(u.dir)
}

func (u *unpacker) entry(header *tar.Header, content io.Reader) error {
	path := clean(header.Name)
	switch {
	case !filepath.IsLocal(path):
		return errors.New("the name leads out of the image")
	case len(path) >= unix.PathMax || len(header.Linkname) >= unix.PathMax:
		return errors.New("the name is longer than Linux allows")
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
	if u.plain {
		return u.mark(filepath.Join(parent, whiteoutPrefix+name))
	}
	return u.inDir(parent, func(fd int) error { return unix.Mknodat(fd, name, unix.S_IFCHR, 0) })
}

// mark makes the file that stands for a whiteout where overlayfs does not read it.
func (u *unpacker) mark(path string) error {
	f, err := u.root.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// unhide removes the whiteout of a name that the layer itself has, and says whether there was one.
func (u *unpacker) unhide(path string) bool {
	return u.plain && path != "." && u.root.Remove(filepath.Join(filepath.Dir(path), whiteoutPrefix+filepath.Base(path))) == nil
}

// opaque hides the contents that a directory has in the layers below.
func (u *unpacker) opaque(dir string) error {
	if u.plain {
		return u.mark(filepath.Join(dir, whiteoutOpaque))
	}
	return u.inDir(dir, func(fd int) error { return unix.Fsetxattr(fd, opaqueAttr, []byte("y"), 0) })
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
	if header.Typeflag == tar.TypeDir && err == nil && old.IsDir() {
		return true, nil
	}
	if err == nil && (old.IsDir() || old.Mode().IsRegular() && old.Size() > 0) {
		u.keep.spoilt = true // the tar has two of that name, and what one of them holds goes
	}
	hidden := u.unhide(path)
	if header.Typeflag == tar.TypeDir {
		if err := u.directory(path, old); err != nil || !hidden {
			return true, err
		}
		return true, u.opaque(path)
	}
	if path == "." {
		return false, errors.New("the image's root is no directory")
	}
	if err == nil {
		if err := u.root.RemoveAll(path); err != nil {
			return false, err
		}
	}
	if regular(header) {
		return true, u.file(header, path, content)
	}
	switch header.Typeflag {
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
