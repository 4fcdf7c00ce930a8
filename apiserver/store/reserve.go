package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// databaseReserve is how far behind its end the database's file has disk space already: one step by which bbolt grows it.
const databaseReserve = 16 << 20

// lastRecord is by how much a file of the log may become longer than it should: it is changed for the next one only after
// the record that did not fit, and several requests of 1.5 MiB may be one record after the other.
const lastRecord = 4 << 20

// reserved is what all of the reserve may take.
const reserved = 2*(segmentSize+lastRecord) + databaseReserve

// reserve allocates disk space that only the store can use: the file of the log that is written and the next two, which
// etcd takes by their names when it needs them, the holes in the database's file, and a piece behind its end. What is there already costs
// nothing more than a look.
func reserve(dir string) error {
	segments, err := listSegments(logDir(dir))
	if err != nil {
		return err
	}
	if n := len(segments); n > 0 {
		if err := allocate(filepath.Join(logDir(dir), segments[n-1].name), 0, segmentSize+lastRecord); err != nil {
			return err
		}
	}
	for i := range 2 {
		// etcd's log makes its next file under these names in turn, and keeps what it finds there
		path := filepath.Join(logDir(dir), fmt.Sprintf("%d.tmp", i))
		if err := allocate(path, os.O_CREATE, segmentSize+lastRecord); err != nil {
			return err
		}
	}
	info, err := os.Stat(databaseFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil // etcd makes it
	}
	if err != nil {
		return err
	}
	return allocate(databaseFile(dir), 0, info.Size()+databaseReserve)
}

// allocate gives the first size bytes of a file disk space; what the file says and how long it is stay as they are. Where
// the file system cannot do that, nothing is kept.
func allocate(path string, flag int, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|flag, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil // before the first start
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	if stat.Blocks*512 >= size {
		return nil
	}
	err = retryInterrupted(func() error { return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size) })
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keeping %d MiB for %s: %w", size>>20, path, err)
	}
	return nil
}

func retryInterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
