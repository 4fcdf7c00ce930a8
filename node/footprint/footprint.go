package footprint

import (
	"bufio"
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
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("reading the memory map: %w", err)
	}
	defer f.Close()
	regions, err := readOnlyFiles(f)
	if err != nil {
		return fmt.Errorf("reading the memory map: %w", err)
	}
	for _, r := range regions {
		// not unix.Madvise, which takes a slice: this memory is not Go's
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r.from, r.to-r.from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmapping %x-%x: %w", r.from, r.to, errno)
		}
	}
	return nil
}

type region struct{ from, to uintptr }

// readOnlyFiles picks, from text as in proc_pid_maps(5), the mappings of files that cannot be written to:
// dropping their pages loses nothing.
func readOnlyFiles(maps io.Reader) ([]region, error) {
	var found []region
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var r region
		var mode, device, path string
		var offset, inode uint64
		n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s %x %s %d %s", &r.from, &r.to, &mode, &offset, &device, &inode, &path)
		if n == 7 && strings.HasPrefix(path, "/") && !strings.Contains(mode, "w") {
			found = append(found, r)
		}
	}
	return found, lines.Err()
}
