package footprint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// table is in the binary's read-only data, and long enough for several pages.
const table = "0123456789abcdef"

func TestShrinkKeepsEverything(t *testing.T) {
	written := slices.Repeat([]byte{7}, 1<<20)
	constant := strings.Repeat(table, 1<<10)
	for range 3 {
		if err := Shrink(); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(written, slices.Repeat([]byte{7}, 1<<20)) || constant != strings.Repeat(table, 1<<10) {
		t.Error("memory changed")
	}
}

func TestShrinkUnmapsWhatWasRead(t *testing.T) {
	const size = 8 << 20
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, slices.Repeat([]byte{1}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	before := fileKB(t)
	if err := Shrink(); err != nil {
		t.Fatal(err)
	}
	if after := fileKB(t); before-after < size/1024 {
		t.Errorf("file-backed memory went from %d to %d kB, want at least %d kB less", before, after, size/1024)
	}
	if data[size-1] != 1 {
		t.Error("the file's contents are gone")
	}
}

// fileKB is RssFile of proc_pid_status(5).
func fileKB(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "RssFile:")
	var kb int
	if _, err := fmt.Sscanf(rest, "%d kB", &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}

func TestOnlyReadOnlyFilesAreChosen(t *testing.T) {
	got, err := readOnlyFiles(strings.NewReader(`00400000-00500000 r-xp 00000000 fe:00 123 /usr/bin/svcplane
Rss:                1024 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00500000-00600000 r--p 00100000 fe:00 123                        /usr/bin/svcplane
Anonymous:             0 kB
00600000-00700000 rw-p 00200000 fe:00 123                        /usr/bin/svcplane
Anonymous:             0 kB
00700000-00800000 r--p 00300000 fe:00 123                        /usr/bin/svcplane
Anonymous:            64 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:          4096 kB
7f000000-7f001000 r--s 00000000 fe:00 456                /var/lib/svcplane/store/db
Anonymous:             0 kB
7fff0000-7fff1000 r-xp 00000000 00:00 0                  [vdso]
Anonymous:             0 kB
7fff2000-7fff3000 ---p 00000000 00:00 0
Anonymous:             0 kB
`))
	want := []region{{0x400000, 0x500000}, {0x500000, 0x600000}, {0x7f000000, 0x7f001000}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
}
