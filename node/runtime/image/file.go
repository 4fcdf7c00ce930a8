package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func regular(header *tar.Header) bool {
	return header.Typeflag == tar.TypeReg || header.Typeflag == tar.TypeGNUSparse || header.Typeflag == tar.TypeCont
}

// sparse says whether a tar leaves out the holes of a file.
func sparse(header *tar.Header) bool {
	if header.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (u *unpacker) file(header *tar.Header, path string, content io.Reader) error {
	f, err := u.root.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	fill := func() error { return u.fill(f, content) }
	if header.Size > 0 && !sparse(header) {
		err = u.keep.content(path, header.Size, fill)
	} else {
		err = fill()
	}
	return errors.Join(err, f.Close())
}

// fill writes a file, and leaves holes where only zeros are.
func (u *unpacker) fill(f *os.File, content io.Reader) error {
	buf := make([]byte, 64<<10)
	size, written := int64(0), int64(0)
	for {
		n, err := io.ReadFull(content, buf)
		if n > 0 && (n < len(buf) || !onlyZeros(buf)) {
			if _, failed := f.WriteAt(buf[:n], size); failed != nil {
				return failed
			}
			written = size + int64(n)
			if u.since.bytes += int64(n); u.since.bytes >= lookBytes {
				if failed := u.look(); failed != nil {
					return failed
				}
			}
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && n > 0 {
			break
		}
		if err != nil {
			return err
		}
	}
	if written < size {
		return f.Truncate(size)
	}
	return nil
}

func onlyZeros(b []byte) bool { return b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }

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
	if err := u.extended(header, path); err != nil {
		return err
	}
	if header.Typeflag == tar.TypeDir {
		u.times[path] = header.ModTime
		return nil
	}
	return u.root.Chtimes(path, header.ModTime, header.ModTime)
}

// extended sets extended attributes: file capabilities, access lists, and those of users. What would mean something to
// overlayfs, or to the host's SELinux, is not the image's to say. Those of users are left out where the file system has none.
func (u *unpacker) extended(header *tar.Header, path string) error {
	if !regular(header) && header.Typeflag != tar.TypeDir {
		return nil
	}
	for key, value := range header.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !kept(attr) {
			continue
		}
		err := u.inDir(path, func(fd int) error { return unix.Fsetxattr(fd, attr, []byte(value), 0) })
		if err != nil && !(errors.Is(err, unix.ENOTSUP) && (u.plain || attr != "security.capability")) {
			return fmt.Errorf("set the attribute %.60s: %w", attr, err)
		}
	}
	return nil
}

// kept says whether an extended attribute is an image's to set.
func kept(attr string) bool {
	users := strings.HasPrefix(attr, "user.") && !strings.HasPrefix(attr, "user.overlay.")
	return users || attr == "security.capability" || strings.HasPrefix(attr, "system.posix_acl_")
}
