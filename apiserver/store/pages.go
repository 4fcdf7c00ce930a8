package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
)

// What a page of a bbolt file is, and the sizes of its parts: a header (number, kind, count of elements, how many pages
// more it is), and elements that say where in the page a key and a value, or a page further down, are.
const (
	pageHeader  = 16
	kindBranch  = 0x01
	kindLeaf    = 0x02
	elementSize = 16   // of either kind
	leafBucket  = 0x01 // the value begins with the number of the page that a tree of its own begins with
	bucketSize  = 16
)

// checkPages walks the tree of pages, as bbolt does when it opens the file for writing: what cannot be ends the process
// there, from a goroutine of its own, so it is looked for before.
func checkPages(path string, m meta) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening the store: %w: mend the permissions", err)
	}
	defer f.Close()
	w := &pageWalk{path: path, file: f, meta: m, seen: make([]bool, m.pages)}
	return w.walk(m.root, 0, nil, nil)
}

type pageWalk struct {
	path string
	file *os.File
	meta meta
	seen []bool
	bufs [][]byte // one for each level of the tree
}

func (w *pageWalk) at(page uint64) int64 { return int64(page) * int64(w.meta.pageSize) }

func (w *pageWalk) damaged(page uint64, format string, args ...any) error {
	return damaged(w.path, w.at(page), "the page that begins there is broken: "+format, args...)
}

// walk checks a page and those below it. Their keys are from low, and below high unless that is nil.
func (w *pageWalk) walk(page uint64, level int, low, high []byte) error {
	raw, err := w.read(page, level)
	if err != nil {
		return err
	}
	elements, err := parsePage(raw)
	if err != nil {
		return w.damaged(page, "%v", err)
	}
	for i, e := range elements {
		if before := bytes.Compare(e.key, low); before < 0 || i > 0 && before == 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return w.damaged(page, "the keys are not in their order at element %d", i)
		}
		low = e.key
		if e.page == 0 {
			continue
		}
		from, to := e.key, high
		if e.bucket {
			from, to = nil, nil
		} else if i+1 < len(elements) {
			to = elements[i+1].key
		}
		if err := w.walk(e.page, level+1, from, to); err != nil {
			return err
		}
	}
	return nil
}

// read gets a page with those that belong to it, each once.
func (w *pageWalk) read(page uint64, level int) ([]byte, error) {
	if page < 2 || page >= w.meta.pages {
		return nil, damaged(w.path, -1, "something in it refers to page %d, and there are pages 2 to %d", page, w.meta.pages-1)
	}
	for len(w.bufs) <= level {
		w.bufs = append(w.bufs, make([]byte, w.meta.pageSize))
	}
	raw := w.bufs[level]
	if _, err := w.file.ReadAt(raw, w.at(page)); err != nil {
		return nil, w.damaged(page, "%v", err)
	}
	if have := binary.NativeEndian.Uint64(raw); have != page {
		return nil, w.damaged(page, "it calls itself page %d and is page %d", have, page)
	}
	more := uint64(binary.NativeEndian.Uint32(raw[12:]))
	if page+more >= w.meta.pages {
		return nil, w.damaged(page, "%d pages more belong to it, and there are only %d", more, w.meta.pages)
	}
	for i := page; i <= page+more; i++ {
		if w.seen[i] {
			return nil, w.damaged(i, "two others refer to it")
		}
		w.seen[i] = true
	}
	if more == 0 {
		return raw, nil
	}
	raw = make([]byte, (more+1)*uint64(w.meta.pageSize))
	if _, err := w.file.ReadAt(raw, w.at(page)); err != nil {
		return nil, w.damaged(page, "%v", err)
	}
	return raw, nil
}

// element is a key in a page, and the page it leads to, if any.
type element struct {
	key    []byte
	page   uint64
	bucket bool // page begins a tree of its own
}

// parsePage reads the elements of a page.
func parsePage(raw []byte) ([]element, error) {
	order := binary.NativeEndian
	kind, count := order.Uint16(raw[8:]), int(order.Uint16(raw[10:]))
	if kind != kindBranch && kind != kindLeaf {
		return nil, fmt.Errorf("its kind is %#x, neither branch nor leaf", kind)
	}
	if pageHeader+count*elementSize > len(raw) {
		return nil, fmt.Errorf("%d elements do not fit into it", count)
	}
	all := make([]element, count)
	for i := range all {
		at := pageHeader + i*elementSize
		e := raw[at:]
		pos, keySize, valueSize := order.Uint32(e), order.Uint32(e[4:]), uint32(0)
		if kind == kindLeaf {
			pos, keySize, valueSize = order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
		}
		begin := uint64(at) + uint64(pos)
		end := begin + uint64(keySize)
		if end+uint64(valueSize) > uint64(len(raw)) {
			return nil, fmt.Errorf("element %d lies beyond its end", i)
		}
		all[i].key = raw[begin:end]
		switch {
		case kind == kindBranch:
			all[i].page = order.Uint64(e[8:])
			if all[i].page == 0 {
				return nil, fmt.Errorf("element %d leads nowhere", i)
			}
		case order.Uint32(e)&leafBucket != 0:
			if valueSize < bucketSize {
				return nil, fmt.Errorf("element %d is too short for a bucket", i)
			}
			all[i].bucket, all[i].page = true, order.Uint64(raw[end:])
		}
	}
	return all, nil
}
