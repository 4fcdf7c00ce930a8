package process

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// region is memory from an address to another one.
type region struct{ from, to uintptr }

// anonymousMemory lists the writable memory of this process that belongs to no file: heap, stacks and variables.
func anonymousMemory(maps string) ([]region, error) {
	f, err := os.Open(maps)
	if err != nil {
		return nil, fmt.Errorf("list the memory of this process: %w", err)
	}
	defer f.Close()
	var list []region
	for lines := bufio.NewScanner(f); ; {
		if !lines.Scan() {
			return list, lines.Err()
		}
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[1] != "rw-p" || fields[4] != "0" {
			continue
		}
		first, last, _ := strings.Cut(fields[0], "-")
		from, err := strconv.ParseUint(first, 16, strconv.IntSize)
		if err != nil {
			continue
		}
		if to, err := strconv.ParseUint(last, 16, strconv.IntSize); err == nil {
			list = append(list, region{uintptr(from), uintptr(to)})
		}
	}
}

// withhold takes this process's memory, but for the surroundings of an address, out of what a fork copies, or puts it back:
// the page tables of some hundred megabytes take milliseconds. A child of raw system calls needs its stack and what lies in
// memory that is shared; what is not listed it gets as well.
//
//go:nosplit
//go:norace
//go:noinline
func withhold(memory []region, stack, advice uintptr) {
	low := stack&^(keepAround-1) - keepAround
	high := low + 3*keepAround
	for i := range memory {
		from, to := memory[i].from, memory[i].to
		if from < high && low < to {
			if from < low {
				syscall.RawSyscall(unix.SYS_MADVISE, from, low-from, advice)
			}
			from = high
		}
		if from < to {
			syscall.RawSyscall(unix.SYS_MADVISE, from, to-from, advice)
		}
	}
}
