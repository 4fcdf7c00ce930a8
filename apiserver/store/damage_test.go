package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// keys is how many are in the store that the tests damage.
const keys = 300

// open opens a store that has to open, or fail, soon.
func open(t *testing.T, dir string) (*Store, error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, errors.New("THE TEST'S TIME IS OVER"))
	defer cancel()
	return Open(ctx, dir, nil)
}

func client(t *testing.T, s *Store) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: s.Endpoints(), Logger: zap.NewNop(), Context: t.Context()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t *testing.T, c *clientv3.Client, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Put(ctx, key, value); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func count(t *testing.T, c *clientv3.Client) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := c.Get(ctx, "key", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return got.Count
}

// tempDir is short: a unix socket is made in it.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "spt-store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// filled makes a store with values of a size in it and closes it.
func filled(t *testing.T, values, size int) string {
	t.Helper()
	dir := tempDir(t)
	s, err := open(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, s)
	for i := range values {
		put(t, c, fmt.Sprintf("key%04d", i), strings.Repeat("v", size))
	}
	s.Close()
	return dir
}

// clone copies a store.
func clone(t *testing.T, dir string) string {
	t.Helper()
	to := tempDir(t)
	if out, err := exec.Command("cp", "-a", "--sparse=always", dir+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("copying: %v: %s", err, out)
	}
	return to
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// segmentsOf are the paths of the log's files.
func segmentsOf(t *testing.T, dir string) []string {
	t.Helper()
	all, err := listSegments(logDir(dir))
	must(t, err)
	var paths []string
	for _, s := range all {
		paths = append(paths, filepath.Join(logDir(dir), s.name))
	}
	return paths
}

// logged is how much of a segment holds records.
func logged(t *testing.T, path string) int64 {
	t.Helper()
	r := logReader{end: logEnd{file: path}}
	must(t, r.read())
	return r.end.at
}

// overwrite puts bytes over a part of a file.
func overwrite(t *testing.T, path string, at int64, raw ...byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(raw, at)
	must(t, err)
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	overwrite(t, path, at, raw[at]^0x10)
}

// TestDamage opens stores that are damaged in every way that a disk, or a hand, damages them: each opens with all that was
// acknowledged in it, or is refused soon with the file, the place and what to do.
func TestDamage(t *testing.T) {
	whole := filled(t, keys, 100)
	page := int64(os.Getpagesize())
	last := func(t *testing.T, dir string) string { s := segmentsOf(t, dir); return s[len(s)-1] }
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   []string // parts of the error; nil: it opens
	}{
		{"none", func(*testing.T, string) {}, nil},
		{"log gone", func(t *testing.T, dir string) { must(t, os.RemoveAll(logDir(dir))) }, []string{"wal", "write-ahead log is gone", "put back a copy"}},
		{"log empty", func(t *testing.T, dir string) { must(t, os.Truncate(last(t, dir), 0)) }, []string{".wal at byte 0", "it is empty"}},
		{"log cut in half", func(t *testing.T, dir string) { p := last(t, dir); must(t, os.Truncate(p, logged(t, p)/2)) }, []string{".wal at byte", "ends there with entry", "put back a copy"}},
		{"log cut by a byte", func(t *testing.T, dir string) { p := last(t, dir); must(t, os.Truncate(p, logged(t, p)-1)) }, nil},
		{"log torn behind its end", func(t *testing.T, dir string) {
			p := last(t, dir)
			overwrite(t, p, logged(t, p), 0x40, 0, 0, 0, 0, 0, 0, 0)
		}, nil},
		{"bit of the log flipped", func(t *testing.T, dir string) { p := last(t, dir); flip(t, p, logged(t, p)/2) }, []string{".wal at byte", "a record of the write-ahead log is broken", "put back a copy"}},
		{"log is a directory", func(t *testing.T, dir string) { p := last(t, dir); must(t, os.Remove(p)); must(t, os.Mkdir(p, 0o700)) }, []string{".wal", "it is no file"}},
		{"database gone, log from the beginning", func(t *testing.T, dir string) { must(t, os.Remove(databaseFile(dir))) }, nil},
		{"database gone, log from later", func(t *testing.T, dir string) {
			must(t, os.Remove(databaseFile(dir)))
			p := last(t, dir)
			must(t, os.Rename(p, filepath.Join(logDir(dir), "0000000000000001-0000000000000080.wal")))
		}, []string{"snap/db", "the database is gone"}},
		{"database empty", func(t *testing.T, dir string) { must(t, os.Truncate(databaseFile(dir), 0)) }, []string{"snap/db at byte 0", "both meta pages"}},
		{"database cut", func(t *testing.T, dir string) { must(t, os.Truncate(databaseFile(dir), 4*page)) }, []string{fmt.Sprintf("snap/db at byte %d", 4*page), "should have at least", "put back a copy"}},
		{"meta pages zeroed", func(t *testing.T, dir string) { overwrite(t, databaseFile(dir), 0, make([]byte, 2*page)...) }, []string{"snap/db at byte 0", "both meta pages are broken", "put back a copy"}},
		{"first meta page broken", func(t *testing.T, dir string) { flip(t, databaseFile(dir), metaAt+40) }, nil},
		{"second meta page broken", func(t *testing.T, dir string) { flip(t, databaseFile(dir), page+metaAt+40) }, nil},
		{"root page zeroed", func(t *testing.T, dir string) {
			overwrite(t, databaseFile(dir), int64(rootOf(t, databaseFile(dir)))*page, make([]byte, page)...)
		}, []string{"snap/db at byte", "put back a copy"}},
		{"pages zeroed", func(t *testing.T, dir string) {
			info, err := os.Stat(databaseFile(dir))
			must(t, err)
			overwrite(t, databaseFile(dir), 2*page, make([]byte, info.Size()-2*page)...)
		}, []string{"snap/db at byte", "put back a copy"}},
		{"database is a directory", func(t *testing.T, dir string) {
			must(t, os.Remove(databaseFile(dir)))
			must(t, os.Mkdir(databaseFile(dir), 0o700))
		}, []string{"snap/db", "it is no file"}},
		{"member is a file", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(memberDir(dir)))
			must(t, os.WriteFile(memberDir(dir), nil, 0o600))
		}, []string{"member", "it is no directory"}},
		{"database held by another process", func(t *testing.T, dir string) { hold(t, databaseFile(dir)) }, []string{"snap/db", "another process has it open", "stop that process ("}},
		{"leftovers of a first start", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(memberDir(dir)))
			must(t, os.MkdirAll(filepath.Dir(databaseFile(dir)), 0o700))
			must(t, os.WriteFile(databaseFile(dir), nil, 0o600))
		}, []string{"NEW"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := clone(t, whole)
			tt.damage(t, dir)
			began := time.Now()
			s, err := open(t, dir)
			if err == nil {
				defer s.Close()
			}
			if d := time.Since(began); d > 10*time.Second {
				t.Errorf("it took %v", d)
			}
			switch {
			case len(tt.want) == 1 && tt.want[0] == "NEW":
				if err != nil || count(t, client(t, s)) != 0 {
					t.Errorf("want a new store, got %v", err)
				}
			case tt.want == nil && err != nil:
				t.Errorf("want it open, got: %v", err)
			case tt.want == nil:
				if n := count(t, client(t, s)); n != keys {
					t.Errorf("%d keys are there, %d were acknowledged", n, keys)
				}
			case err == nil:
				t.Errorf("it opened, want %q", tt.want)
			default:
				for _, part := range tt.want {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%v\nlacks %q", err, part)
					}
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("more than one line: %v", err)
				}
			}
		})
	}
}

// rootOf is the page that the valid newest meta page leads to.
func rootOf(t *testing.T, path string) uint64 {
	t.Helper()
	m, err := newestMeta(path)
	must(t, err)
	return m.root
}

// hold keeps a file locked by another process, until the test ends.
func hold(t *testing.T, path string) {
	t.Helper()
	cmd := exec.Command("flock", path, "sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); exec.Command("flock", "-n", path, "true").Run() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lock is not taken")
		}
	}
}

// TestSegmentGone takes each file out of a log of several.
func TestSegmentGone(t *testing.T) {
	whole := filled(t, 40, 1<<20)
	all := segmentsOf(t, whole)
	if len(all) < 3 {
		t.Fatalf("%d segments, the test needs three", len(all))
	}
	for i, want := range []string{"", "comes after it is gone", "ends there with entry"} {
		if i == 0 {
			continue // what the database holds already, etcd may have removed itself
		}
		dir := clone(t, whole)
		must(t, os.Remove(segmentsOf(t, dir)[i]))
		s, err := open(t, dir)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without segment %d: %v, want %q", i, err, want)
		}
	}
}

// TestLogCutAnywhere cuts a log at random: it opens with everything, or is refused; it never waits, and never drops what
// was acknowledged.
func TestLogCutAnywhere(t *testing.T) {
	whole := filled(t, keys, 100)
	end := logged(t, segmentsOf(t, whole)[0])
	opened := 0
	for range 12 {
		dir, at := clone(t, whole), rand.Int64N(end)
		must(t, os.Truncate(segmentsOf(t, dir)[0], at))
		s, err := open(t, dir)
		if err == nil {
			opened++
			if n := count(t, client(t, s)); n != keys {
				t.Errorf("cut at byte %d of %d it opens with %d keys of %d", at, end, n, keys)
			}
			s.Close()
			continue
		}
		var d *Damage
		if !errors.As(err, &d) {
			t.Errorf("cut at byte %d of %d: %v", at, end, err)
		}
	}
	t.Logf("opened %d of 12", opened)
}

// TestOpeningEndsWithItsContext: also while etcd waits for something that never comes.
func TestOpeningEndsWithItsContext(t *testing.T) {
	dir := filled(t, 1, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("asked to stop")
	cancel(reason)
	if _, err := Open(ctx, dir, nil); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}

// TestDatabaseFlippedAnywhere flips bits of the database at random: it opens with every key there, or is refused; whatever
// it is, the process lives. What a value says is not guarded: bbolt has no checksums of it.
func TestDatabaseFlippedAnywhere(t *testing.T) {
	whole := filled(t, keys, 100)
	m, err := newestMeta(databaseFile(whole))
	must(t, err)
	opened, random := 0, rand.New(rand.NewPCG(1, 2)) // the same places each time: what fails once can be looked at
	for range 20 {
		dir, at := clone(t, whole), random.Int64N(int64(m.pages)*int64(m.pageSize))
		flip(t, databaseFile(dir), at)
		s, err := open(t, dir)
		if err == nil {
			opened++
			if n := count(t, client(t, s)); n < keys-1 { // one of them may have another name now
				t.Errorf("flipped at byte %d it opens with %d keys of %d", at, n, keys)
			}
			s.Close()
		} else if !strings.Contains(err.Error(), "put back a copy") {
			t.Errorf("flipped at byte %d: %v", at, err)
		}
	}
	t.Logf("opened %d of 20", opened)
}

// TestNamesOfIndexFlipped: the name under which the database keeps its place in the log is as good as the place.
func TestNamesOfIndexFlipped(t *testing.T) {
	whole := filled(t, keys, 100)
	content, err := os.ReadFile(databaseFile(whole))
	must(t, err)
	refused, name := 0, []byte("consistent_index")
	for at := bytes.Index(content, name); at >= 0; {
		dir := clone(t, whole)
		flip(t, databaseFile(dir), int64(at))
		s, err := open(t, dir)
		if err == nil {
			s.Close() // a page that nothing refers to any more
		} else if refused++; !strings.Contains(err.Error(), "put back a copy") {
			t.Errorf("flipped at byte %d: %v", at, err)
		}
		next := bytes.Index(content[at+1:], name)
		if next < 0 {
			break
		}
		at += 1 + next
	}
	if refused == 0 {
		t.Error("it opens in every case")
	}
}

// BenchmarkCheck is what the look at the files costs a start, with as many objects as a small cluster has.
func BenchmarkCheck(b *testing.B) {
	dir, err := os.MkdirTemp("", "spt-store-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := Open(b.Context(), dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: s.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for i := range 2000 {
		if _, err := c.Put(b.Context(), fmt.Sprintf("key%04d", i), strings.Repeat("v", 1500)); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
	for b.Loop() {
		if err := check(dir); err != nil {
			b.Fatal(err)
		}
	}
}
