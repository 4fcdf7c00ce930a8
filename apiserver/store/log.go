package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// segment is one file of the write-ahead log: SEQUENCE-INDEX.wal, with the index of the first entry in it.
type segment struct {
	name            string
	sequence, index uint64
}

// listSegments gives the files of the log in their order.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store's log: %w: mend the permissions", err)
	}
	var all []segment
	for _, e := range entries {
		s := segment{name: e.Name()}
		if _, err := fmt.Sscanf(e.Name(), "%016x-%016x.wal", &s.sequence, &s.index); err == nil && strings.HasSuffix(e.Name(), ".wal") {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b segment) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// checkLog reads the end of the log, from the segment that the database has caught up to. It has to reach at least as far
// as the database: a shorter one would take new writes for those that the database has already, and drop them.
func checkLog(dir string, segments []segment, database uint64) error {
	for i := 1; i < len(segments); i++ {
		if before := segments[i-1]; segments[i].sequence != before.sequence+1 {
			return damaged(filepath.Join(dir, before.name), -1, "the segment of the write-ahead log that comes after it is gone: the next one is %s", segments[i].name)
		}
	}
	from := 0
	for i, s := range segments {
		if s.index <= database {
			from = i
		}
	}
	if first := segments[0]; first.index > database+1 {
		return damaged(filepath.Join(dir, first.name), -1, "the write-ahead log begins with entry %d, and the database ends with %d", first.index, database)
	}
	end, err := readLog(dir, segments[from:])
	if err != nil {
		return err
	}
	if need := max(database, end.committed); end.index < need {
		return damaged(end.file, end.at, "the write-ahead log ends there with entry %d, and the database has entry %d: what was written in between is lost from it", end.index, need)
	}
	return nil
}

// logEnd is how far a log reaches.
type logEnd struct {
	file             string
	at               int64 // behind the last valid record of file
	index, committed uint64
}

// logReader reads the segments of a log one after the other, so that it is known where it is.
type logReader struct {
	end logEnd
	crc uint32
}

func readLog(dir string, segments []segment) (logEnd, error) {
	r := logReader{}
	r.end.index = max(segments[0].index, 1) - 1 // as many entries are in the segments before
	for i, s := range segments {
		r.end.file, r.end.at = filepath.Join(dir, s.name), 0
		err := r.read()
		switch last := i == len(segments)-1; {
		case err == nil:
		case errors.Is(err, io.ErrUnexpectedEOF) && last:
			return r.end, nil // torn: etcd cuts it off
		case errors.Is(err, os.ErrPermission):
			return r.end, fmt.Errorf("opening the store's log: %w: mend the permissions", err)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return r.end, damaged(r.end.file, r.end.at, "the segment of the write-ahead log ends in the middle of a record, and it is not the last one")
		default:
			return r.end, damaged(r.end.file, r.end.at, "a record of the write-ahead log is broken (%s)", cause(err))
		}
	}
	return r.end, nil
}

// cause leaves out what the message says anyway.
func cause(err error) string {
	text, _, _ := strings.Cut(err.Error(), ": in file")
	return text
}

// read reads one segment to its end.
func (r *logReader) read() error {
	f, err := os.Open(r.end.file)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return errors.New("it is no file")
	}
	decoder := wal.NewDecoder(fileutil.NewFileReader(f))
	decoder.UpdateCRC(r.crc)
	for records := 0; ; records++ {
		var record walpb.Record
		err := decoder.Decode(&record)
		if errors.Is(err, io.EOF) {
			if records == 0 {
				return errors.New("it is empty")
			}
			return nil
		}
		if err == nil {
			err = protect(func() error { return r.take(&record, decoder) })
		}
		if err != nil {
			return err
		}
		r.end.at, r.crc = decoder.LastOffset(), decoder.LastCRC()
	}
}

// take notes what one record says of how far the log reaches.
func (r *logReader) take(record *walpb.Record, decoder wal.Decoder) error {
	switch record.Type {
	case wal.CrcType:
		if have := decoder.LastCRC(); have != 0 && record.Crc != have {
			return errors.New("it does not continue the segment before")
		}
		decoder.UpdateCRC(record.Crc)
	case wal.EntryType:
		var entry raftpb.Entry
		if err := entry.Unmarshal(record.Data); err != nil {
			return err
		}
		r.end.index = entry.Index
	case wal.StateType:
		var state raftpb.HardState
		if err := state.Unmarshal(record.Data); err != nil {
			return err
		}
		r.end.committed = state.Commit
	}
	return nil
}
