package footprint

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// Shrink collects garbage, returns free memory to the machine, and unmaps the pages of files that the process
// only reads: its own binary, and databases it has mapped. They come back at a minor fault each.
func Shrink() error {
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("reading the memory map: %w", err)
	}
	defer f.Close()
	regions, err := readOnlyFiles(f)
	if err != nil {
		return fmt.Errorf("reading the memory map: %w", err)
	}
	for _, r := range regions {
		// A binary that the page cache holds in huge pages would come back 2 MiB at a fault. EINVAL: no kernel with those.
		if err := r.advise(unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
		if err := r.advise(unix.MADV_DONTNEED); err != nil {
			return err
		}
	}
	return nil
}

// advise is not unix.Madvise, which takes a slice: this memory is not Go's.
func (r region) advise(advice uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r.from, r.to-r.from, advice); errno != 0 {
		return fmt.Errorf("unmapping %x-%x: %w", r.from, r.to, errno)
	}
	return nil
}

type region struct{ from, to uintptr }

// readOnlyFiles picks, from text as in proc_pid_smaps(5), the mappings of files that cannot be written to and never
// were: dropping their pages loses nothing. A dynamic linker writes into pages before it makes them read-only; such
// a mapping has anonymous pages.
func readOnlyFiles(smaps io.Reader) ([]region, error) {
	var found []region
	var current *region
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		line := lines.Text()
		if kb, ok := strings.CutPrefix(line, "Anonymous:"); ok {
			if current != nil && strings.TrimSpace(kb) == "0 kB" {
				found = append(found, *current)
			}
			current = nil
			continue
		}
		var r region
		var mode, device, path string
		var offset, inode uint64
		n, _ := fmt.Sscanf(line, "%x-%x %s %x %s %d %s", &r.from, &r.to, &mode, &offset, &device, &inode, &path)
		if n == 7 && strings.HasPrefix(path, "/") && !strings.Contains(mode, "w") {
			current = &r
		}
	}
	return found, lines.Err()
}
