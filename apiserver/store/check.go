package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Damage is a file of the store that etcd could not open, or would open and lose writes by.
type Damage struct {
	File string
	At   int64 // position in File, -1 for the whole of it
	What string
	// Mend is what to do instead of taking back a copy; empty: that.
	Mend string
}

// remedy names both ways out of a store that is lost.
const remedy = "put back a copy of the data directory's store and pki that was made while the server was stopped, " +
	"or move both away and start: the cluster is then new and empty (images and the files of volumes stay)"

func (d *Damage) Error() string {
	where := d.File
	if d.At >= 0 {
		where = fmt.Sprintf("%s at byte %d", d.File, d.At)
	}
	mend := d.Mend
	if mend == "" {
		mend = remedy
	}
	return fmt.Sprintf("the store is damaged: %s: %s: %s", where, d.What, mend)
}

func damaged(file string, at int64, format string, args ...any) *Damage {
	return &Damage{File: file, At: at, What: fmt.Sprintf(format, args...)}
}

// lockWait is how long another process may have the database before that is an error.
const lockWait = 500 * time.Millisecond

// check looks for what etcd answers with a panic, by waiting for ever, or by losing writes. It changes nothing, and reads
// the structure of the database and the end of the log.
func check(dir string) error {
	database, log := databaseFile(dir), logDir(dir)
	for _, d := range []string{filepath.Dir(memberDir(dir)), memberDir(dir), filepath.Dir(database), log} {
		if info, err := os.Stat(d); err == nil && !info.IsDir() {
			return damaged(d, -1, "it is no directory")
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("opening the store: %w: mend the permissions", err)
		}
	}
	segments, err := listSegments(log)
	if err != nil {
		return err
	}
	info, err := os.Stat(database)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return checkWithoutDatabase(dir, segments)
	case err != nil:
		return fmt.Errorf("opening the store: %w: mend the permissions", err)
	case !info.Mode().IsRegular():
		return damaged(database, -1, "it is no file")
	case info.Size() == 0 && len(segments) == 0:
		return nil // the first start ended before anything was written
	}
	index, err := readDatabase(database)
	if err != nil {
		return err
	}
	if len(segments) == 0 {
		if index == 0 {
			return nil
		}
		return damaged(log, -1, "the write-ahead log is gone, and the database %s needs it", database)
	}
	return checkLog(log, segments, index)
}

// checkWithoutDatabase lets a log pass that begins at the beginning: the database is made from it.
func checkWithoutDatabase(dir string, segments []segment) error {
	if len(segments) == 0 {
		return nil
	}
	snapshots, err := filepath.Glob(filepath.Join(filepath.Dir(databaseFile(dir)), "*.snap"))
	if err != nil {
		return err
	}
	if segments[0].index > 0 || len(snapshots) > 0 {
		return damaged(databaseFile(dir), -1, "the database is gone, and the write-ahead log does not reach back to its beginning")
	}
	return nil
}

// readDatabase returns the index of the log that the database has caught up with.
func readDatabase(path string) (index uint64, err error) {
	m, err := newestMeta(path)
	if err != nil {
		return 0, err
	}
	if err := checkPages(path, m); err != nil {
		return 0, err
	}
	err = protect(func() error {
		db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: lockWait})
		if err != nil {
			return err
		}
		defer db.Close()
		return db.View(func(tx *bolt.Tx) error {
			if meta := tx.Bucket([]byte("meta")); meta != nil {
				if value := meta.Get([]byte("consistent_index")); len(value) == 8 {
					index = binary.BigEndian.Uint64(value)
				}
			}
			if err := checkRevisions(tx.Bucket([]byte("key"))); err != nil {
				return err
			}
			if members := tx.Bucket([]byte("members")); index == 0 && members != nil {
				if key, _ := members.Cursor().First(); key != nil {
					return errNoIndex // raft would add the member a second time, and end the process over it
				}
			}
			return nil
		})
	})
	switch {
	case err == nil:
		return index, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return 0, &Damage{File: path, At: -1, What: "another process has it open", Mend: "stop that process" + openedBy(path)}
	case errors.Is(err, os.ErrPermission):
		return 0, fmt.Errorf("opening the store: %w: mend the permissions", err)
	}
	return 0, damaged(path, -1, "its pages contradict each other (%v)", err)
}

// checkRevisions looks at the names of what is stored, which are revisions: "main_sub", each of 8 octets, and a "t" behind
// them where it was deleted. etcd reads them in a goroutine of its own, and panics at one that is none.
func checkRevisions(stored *bolt.Bucket) error {
	if stored == nil {
		return nil
	}
	return stored.ForEach(func(k, _ []byte) error {
		if (len(k) != 17 && len(k) != 18) || k[8] != '_' || k[0]&0x80 != 0 || k[9]&0x80 != 0 {
			return fmt.Errorf("%q is no revision", k)
		}
		return nil
	})
}

var errNoIndex = errors.New("it has a member and does not say how much of the write-ahead log it holds")

// openedBy names the processes that have a file open, as far as /proc tells.
func openedBy(path string) string {
	want, err := os.Stat(path)
	if err != nil {
		return ""
	}
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range files {
		info, err := os.Stat(fd)
		if err != nil || !os.SameFile(info, want) {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		if name, err := os.ReadFile(filepath.Join("/proc", pid, "comm")); err == nil && pid != fmt.Sprint(os.Getpid()) {
			found = append(found, pid+" "+strings.TrimSpace(string(name)))
		}
	}
	if len(found) == 0 {
		return ""
	}
	return " (" + strings.Join(found, ", ") + ")"
}
