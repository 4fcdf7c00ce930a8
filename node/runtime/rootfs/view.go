package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// View is a root that lends the host's programs, read-only, and nothing else of the host's files.
type View struct {
	Hide []string `json:"hide,omitempty"` // directories of the host that are never shown, wherever they lie
}

// lent are the directories of the host that hold programs and what they need to run.
var lent = []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/nix/store", "/gnu/store"}

// settings are what programs read in /etc and everybody may: how to resolve names, find libraries, trust
// certificates and speak of time. Whatever else is there, keys and passwords above all, is not shown.
var settings = []string{
	"alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version", "gai.conf", "host.conf",
	"inputrc", "iproute2", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "login.defs", "magic", "mime.types",
	"nsswitch.conf", "os-release", "pki/ca-trust", "pki/tls/certs", "profile", "profile.d", "protocols", "python3", "rpc", "services",
	"ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "vim",
}

// accounts are the names of the container's users. The host's are not told.
var accounts = map[string]string{
	"passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"group":  "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
}

// viewRoot puts the view together on a tmpfs, which finish makes read-only; /tmp stays writable.
func (b *builder) viewRoot() error {
	if err := unix.Mount("svcplane", b.root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=64m"); err != nil {
		return fmt.Errorf("mount a tmpfs for the container's root: %w", err)
	}
	b.cover(b.root, true)
	b.spec.ReadOnly = true
	for _, path := range lent {
		if err := b.lend(path); err != nil {
			return err
		}
	}
	for _, name := range settings {
		if err := b.lend(filepath.Join("/etc", name)); err != nil {
			return err
		}
	}
	if err := b.ownFiles(); err != nil {
		return err
	}
	if err := b.hide(); err != nil {
		return err
	}
	return b.systemDirs()
}

// lend shows a file or directory of the host that everybody may read. A link is a link in the view, too.
func (b *builder) lend(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lend %s to a container: %w", path, err)
	}
	target := filepath.Join(b.root, path)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("lend %s to a container: %w", path, err)
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		var link string
		if link, err = os.Readlink(path); err == nil {
			err = os.Symlink(link, target)
		}
	case info.Mode().Perm()&0o004 == 0: // not everybody's
	case info.IsDir():
		if err = os.Mkdir(target, 0o755); err == nil {
			err = b.lendMount(path, target)
		}
	case info.Mode().IsRegular():
		if err = os.WriteFile(target, nil, 0o644); err == nil {
			err = b.lendMount(path, target)
		}
	}
	if err != nil {
		return fmt.Errorf("lend %s to a container: %w", path, err)
	}
	return nil
}

func (b *builder) lendMount(path, target string) error {
	if err := unix.Mount(path, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := setPropagation(target, unix.MS_PRIVATE); err != nil {
		return err
	}
	b.cover(target, false)
	return setAttributes(target, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, unix.AT_RECURSIVE)
}

// ownFiles are the files and directories that every program expects.
func (b *builder) ownFiles() error {
	for name, text := range accounts {
		if err := os.WriteFile(filepath.Join(b.root, "etc", name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s of a container: %w", name, err)
		}
	}
	for _, dir := range []string{"home", "mnt", "opt", "root", "run", "srv", "tmp", "var/cache", "var/lib", "var/log"} {
		if err := os.MkdirAll(filepath.Join(b.root, dir), 0o755); err != nil {
			return fmt.Errorf("make /%s of a container: %w", dir, err)
		}
	}
	for link, to := range map[string]string{"var/run": "/run", "var/tmp": "/tmp", "etc/mtab": "/proc/self/mounts"} {
		if err := os.Symlink(to, filepath.Join(b.root, link)); err != nil {
			return fmt.Errorf("link /%s of a container: %w", link, err)
		}
	}
	if err := unix.Mount("tmp", filepath.Join(b.root, "tmp"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount /tmp of a container: %w", err)
	}
	return nil
}

// hide covers directories of the host that lie in what is lent.
func (b *builder) hide() error {
	for _, path := range b.spec.View.Hide {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			continue // what is not there shows nothing
		}
		target := filepath.Join(b.root, real)
		if b.writable(target) || !isDir(target) {
			continue // not in what is lent
		}
		if err := unix.Mount("hidden", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "mode=0755,size=4k"); err != nil {
			return fmt.Errorf("hide %s from a container: %w", path, err)
		}
	}
	return nil
}
