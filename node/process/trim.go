package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// DropProgramPages gives the pages of this program's code and constants back that start-up touched and that
// nothing may ever touch again; what is needed is mapped anew from the page cache. Only mappings in which
// no page was written are dropped, so nothing is lost. It says how much was resident, in bytes.
func DropProgramPages() (int64, error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, fmt.Errorf("look at the program's memory: %w", err)
	}
	defer f.Close()
	var current mapping
	var clean []mapping
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if next, ok := parseMapping(fields); ok {
			current = next
			continue
		}
		switch fields[0] {
		case "Rss:":
			current.resident = kilobytes(fields)
		case "Anonymous:": // after Rss; pages that were written, by whatever means
			if current.program && kilobytes(fields) == 0 && current.resident > 0 {
				clean = append(clean, current)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("look at the program's memory: %w", err)
	}
	var dropped int64
	var errs []error
	for _, m := range clean {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
			errs = append(errs, fmt.Errorf("drop the program's pages: %w", errno))
			continue
		}
		dropped += m.resident
	}
	return dropped, errors.Join(errs...)
}

// mapping is one entry of proc_pid_smaps(5).
type mapping struct {
	from, to uintptr
	program  bool // a file, mapped without the right to write
	resident int64
}

func parseMapping(fields []string) (mapping, bool) {
	var m mapping
	if len(fields) < 5 {
		return m, false
	}
	if n, err := fmt.Sscanf(fields[0], "%x-%x", &m.from, &m.to); n != 2 || err != nil {
		return m, false
	}
	m.program = len(fields) == 6 && strings.HasPrefix(fields[5], "/") && (fields[1] == "r-xp" || fields[1] == "r--p")
	return m, true
}

func kilobytes(fields []string) int64 {
	var kb int64
	if len(fields) < 2 {
		return 0
	}
	if _, err := fmt.Sscan(fields[1], &kb); err != nil {
		return 0
	}
	return kb << 10
}
