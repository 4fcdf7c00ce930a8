package image

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Records of what is kept of a layer's tar: octets as they came, and the content of a file that lies in the layer's directory.
const (
	keptRaw  = 'R' // length, octets
	keptFile = 'F' // size, length of the path, path
)

// maxKept bounds a record in memory.
const maxKept = 1 << 20

// keeper reads a layer's tar and keeps what of it is not the content of files: headers and padding, compressed. With the
// directory of the layer that is the tar again, bit for bit, as an export needs it.
type keeper struct {
	from   io.Reader
	file   *os.File
	zip    *gzip.Writer
	out    *bufio.Writer
	raw    []byte // not written yet
	silent bool   // a file's content is read
	spoilt bool   // a file was replaced by another one of its name: its content is not kept
}

func newKeeper(from io.Reader, path string) (*keeper, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep the headers of the layer: %w", err)
	}
	zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &keeper{from: from, file: f, zip: zip, out: bufio.NewWriterSize(zip, 64<<10)}, nil
}

// Read is the tar's.
func (k *keeper) Read(p []byte) (int, error) {
	n, err := k.from.Read(p)
	if !k.silent {
		k.raw = append(k.raw, p[:n]...)
		if len(k.raw) >= maxKept/2 {
			k.flush()
		}
	}
	return n, err
}

func (k *keeper) number(n int64) { k.out.Write(binary.AppendUvarint(nil, uint64(n))) } // a bufio.Writer keeps its error

func (k *keeper) flush() {
	if len(k.raw) > 0 {
		k.out.WriteByte(keptRaw)
		k.number(int64(len(k.raw)))
		k.out.Write(k.raw)
		k.raw = k.raw[:0]
	}
}

// content has fn read the content of a file, all of its size.
func (k *keeper) content(path string, size int64, fn func() error) error {
	k.flush()
	k.out.WriteByte(keptFile)
	k.number(size)
	k.number(int64(len(path)))
	k.out.WriteString(path)
	k.silent = true
	defer func() { k.silent = false }()
	return fn()
}

// close completes the file.
func (k *keeper) close() error {
	k.flush()
	err := errors.Join(k.out.Flush(), k.zip.Close(), k.file.Sync(), k.file.Close())
	if err != nil {
		return fmt.Errorf("keep the headers of the layer: %w", err)
	}
	if k.spoilt {
		return os.Remove(k.file.Name())
	}
	return nil
}

// discard gives it up.
func (k *keeper) discard() {
	k.file.Close()
	os.Remove(k.file.Name())
}

// keptRecord is one record: octets, or a file.
type keptRecord struct {
	raw  []byte
	path string
	size int64
}

// eachKept reads what a keeper has kept.
func eachKept(path string, fn func(keptRecord) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	in := bufio.NewReaderSize(zip, 64<<10)
	for {
		record, err := readKept(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if err := fn(record); err != nil {
			return err
		}
	}
}

func readKept(in *bufio.Reader) (r keptRecord, err error) {
	kind, err := in.ReadByte()
	if err != nil {
		return r, err
	}
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return r, whole(err)
	}
	length := size
	if kind == keptFile {
		r.size = int64(size)
		if length, err = binary.ReadUvarint(in); err != nil {
			return r, whole(err)
		}
	}
	if length > maxKept || kind != keptRaw && kind != keptFile {
		return r, errors.New("it is broken")
	}
	text := make([]byte, length)
	if _, err = io.ReadFull(in, text); err != nil {
		return r, whole(err)
	}
	if kind == keptFile {
		r.path = string(text)
	} else {
		r.raw, r.size = text, int64(length)
	}
	return r, nil
}

// whole makes an end within a record an error.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// keptPath is where what is kept of a layer's tar lies, beside its directory.
func keptPath(dir string) string { return dir + keptSuffix }

const keptSuffix = ".headers.gz"

// tarSize is how long the tar of a layer was.
func tarSize(dir string) (size int64, err error) {
	err = eachKept(keptPath(dir), func(r keptRecord) error { size += r.size; return nil })
	return size, err
}

// writeTar writes the tar of a layer as it came.
func writeTar(to io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return eachKept(keptPath(dir), func(r keptRecord) error {
		if r.path == "" {
			_, err := to.Write(r.raw)
			return err
		}
		f, err := root.Open(r.path)
		if err != nil {
			return err
		}
		defer f.Close()
		if n, err := io.Copy(to, io.LimitReader(f, r.size)); err != nil || n != r.size {
			return errors.Join(err, fmt.Errorf("%s has %d bytes, not %d", r.path, n, r.size))
		}
		return nil
	})
}
