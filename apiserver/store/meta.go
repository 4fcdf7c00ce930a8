package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The first two pages of a bbolt file each hold a copy of where everything else is; the newer valid one counts. A page
// begins with a header of 16 bytes, the copy follows.
const (
	metaAt      = 16
	metaLen     = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2
)

// meta is such a copy, as far as it is needed here.
type meta struct {
	pageSize          uint32
	root, pages, txid uint64
}

// readMeta reads the copy in the page that begins at a position.
func readMeta(r io.ReaderAt, at int64) (meta, error) {
	raw := make([]byte, metaLen)
	if _, err := r.ReadAt(raw, at+metaAt); err != nil {
		if errors.Is(err, io.EOF) {
			return meta{}, errors.New("the file ends before it")
		}
		return meta{}, err
	}
	order := binary.NativeEndian // bbolt writes its structures as they are in memory
	sum := fnv.New64a()
	sum.Write(raw[:metaLen-8])
	switch {
	case order.Uint32(raw) != metaMagic:
		return meta{}, errors.New("no mark of a bbolt database")
	case order.Uint32(raw[4:]) != metaVersion:
		return meta{}, fmt.Errorf("version %d of bbolt's format, want %d", order.Uint32(raw[4:]), metaVersion)
	case order.Uint64(raw[metaLen-8:]) != sum.Sum64():
		return meta{}, errors.New("wrong checksum")
	}
	return meta{
		pageSize: order.Uint32(raw[8:]), root: order.Uint64(raw[16:]), pages: order.Uint64(raw[40:]), txid: order.Uint64(raw[48:]),
	}, nil
}

// newestMeta finds the copy that counts, and sees to it that the file is as long as that says: bbolt maps it into memory,
// and a read behind its end is a fault.
func newestMeta(path string) (meta, error) {
	f, err := os.Open(path)
	if err != nil {
		return meta{}, fmt.Errorf("opening the store: %w: mend the permissions", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return meta{}, fmt.Errorf("opening the store: %w", err)
	}
	first, errFirst := readMeta(f, 0)
	second, secondAt, errSecond := readSecondMeta(f, first)
	if errFirst != nil && errSecond != nil {
		return meta{}, damaged(path, 0, "both meta pages are broken (%v; at byte %d: %v)", errFirst, secondAt, errSecond)
	}
	valid := first
	if errFirst != nil || errSecond == nil && second.txid > first.txid {
		valid = second
	}
	if want := int64(valid.pages) * int64(valid.pageSize); info.Size() < want {
		return meta{}, damaged(path, info.Size(), "the file ends there and should have at least %d bytes", want)
	}
	return valid, nil
}

// readSecondMeta looks for the second copy behind the first page, whose size only a valid first one tells.
func readSecondMeta(r io.ReaderAt, first meta) (m meta, at int64, err error) {
	sizes := []int64{int64(first.pageSize)}
	if first.pageSize == 0 {
		sizes = []int64{int64(os.Getpagesize()), 4096, 16384, 65536}
	}
	for _, at = range sizes {
		if m, err = readMeta(r, at); err == nil {
			return m, at, nil
		}
	}
	return meta{}, sizes[0], err
}
