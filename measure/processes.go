package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of times in /proc: USER_HZ is 100 wherever Linux runs Go.
const tick = 10 * time.Millisecond

// Use is what some processes use.
type Use struct {
	CPU       time.Duration // of those that have ended, too
	Memory    uint64        // octets: proportional set size
	Anonymous uint64        // of it, what belongs to no file
	Processes int
	Threads   int
}

// Processes are all that there were at one moment.
type Processes struct {
	proc     string
	children map[int][]int
	inside   map[string][]int // by PID namespace
	stats    map[int]stat
}

type stat struct {
	parent, threads int
	cpu             time.Duration
}

// Read looks at all processes.
func Read() (*Processes, error) { return read("/proc") }

func read(proc string) (*Processes, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	p := &Processes{proc: proc, children: map[int][]int{}, inside: map[string][]int{}, stats: map[int]stat{}}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // no process
		}
		raw, err := os.ReadFile(p.file(pid, "stat"))
		if err != nil {
			continue // it has ended
		}
		s, err := parseStat(raw)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", p.file(pid, "stat"), err)
		}
		p.stats[pid] = s
		p.children[s.parent] = append(p.children[s.parent], pid)
		if ns, err := os.Readlink(p.file(pid, "ns/pid")); err == nil {
			p.inside[ns] = append(p.inside[ns], pid)
		}
	}
	return p, nil
}

func (p *Processes) file(pid int, name string) string {
	return filepath.Join(p.proc, strconv.Itoa(pid), name)
}

// parseStat reads proc_pid_stat(5). The name of the command may hold anything, so fields are counted from its end.
func parseStat(raw []byte) (s stat, err error) {
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	const first = 3 // the number of fields[0] in the manual
	if len(fields) < 20-first+1 {
		return s, fmt.Errorf("it has only %d fields behind the name", len(fields))
	}
	number := func(field int) int {
		n, failed := strconv.Atoi(string(fields[field-first]))
		err = errors.Join(err, failed)
		return n
	}
	s.parent, s.threads = number(4), number(20)
	s.cpu = time.Duration(number(14)+number(15)+number(16)+number(17)) * tick
	return s, err
}

// Inside is what the processes of the PID namespace use whose first process is init, which keeps the namespace and is not
// counted itself, but for the time of those that have ended. ok is false if it is this process's own namespace, or init has ended.
func (p *Processes) Inside(init int) (u Use, ok bool) {
	ns, err := os.Readlink(p.file(init, "ns/pid"))
	if own, ownErr := os.Readlink(filepath.Join(p.proc, "self/ns/pid")); err != nil || ownErr != nil || ns == own {
		return u, false
	}
	return p.sum(p.inside[ns], init), true
}

// Below is what a process and its descendants use; ok is false if it has ended.
func (p *Processes) Below(pid int) (u Use, ok bool) {
	if _, ok := p.stats[pid]; !ok {
		return u, false
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, p.children[all[i]]...)
	}
	return p.sum(all, 0), true
}

func (p *Processes) sum(pids []int, init int) (u Use) {
	for _, pid := range pids {
		s := p.stats[pid]
		u.CPU += s.cpu
		if pid == init {
			continue
		}
		u.Processes++
		u.Threads += s.threads
		raw, err := os.ReadFile(p.file(pid, "smaps_rollup"))
		if err != nil {
			continue // it has ended, or has no memory
		}
		u.Memory += field(raw, "Pss:")
		u.Anonymous += field(raw, "Pss_Anon:")
	}
	return u
}

// field is a value of lines like "Pss:    12 kB", in octets; 0: it is not there.
func field(raw []byte, name string) uint64 {
	for line := range bytes.Lines(raw) {
		words := bytes.Fields(line)
		if len(words) == 3 && string(words[0]) == name && string(words[2]) == "kB" {
			n, err := strconv.ParseUint(string(words[1]), 10, 64)
			if err == nil {
				return n << 10
			}
		}
	}
	return 0
}

// Machine is what the whole machine uses: time since its start, and memory that is not available to anybody else.
type Machine struct {
	CPU                 time.Duration
	Memory, Present     uint64 // octets
	Anonymous, Taken    uint64 // of it, what belongs to no file; all that is not free, page cache included
	Swap, SwapPresent   uint64
	Faults, MajorFaults uint64 // of pages, since the start
	Processes, MaxPID   uint64 // threads count, as they need a number, too
	Started             time.Time
}

// ReadMachine reads it.
func ReadMachine() (Machine, error) { return readMachine("/proc") }

func readMachine(proc string) (m Machine, err error) {
	times, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return m, fmt.Errorf("reading the machine's time: %w", err)
	}
	memory, err := os.ReadFile(filepath.Join(proc, "meminfo"))
	if err != nil {
		return m, fmt.Errorf("reading the machine's memory: %w", err)
	}
	m.Present = field(memory, "MemTotal:")
	m.Memory = m.Present - min(field(memory, "MemAvailable:"), m.Present)
	m.Taken = m.Present - min(field(memory, "MemFree:"), m.Present)
	m.Anonymous, m.SwapPresent = field(memory, "AnonPages:"), field(memory, "SwapTotal:")
	m.Swap = m.SwapPresent - min(field(memory, "SwapFree:"), m.SwapPresent)
	if err := m.readCounts(proc); err != nil {
		return m, err
	}
	for line := range bytes.Lines(times) {
		words := bytes.Fields(line)
		switch {
		case len(words) > 8 && string(words[0]) == "cpu":
			for i, word := range words[1:9] {
				n, failed := strconv.Atoi(string(word))
				err = errors.Join(err, failed)
				if i != 3 && i != 4 { // idle, waiting for a disk
					m.CPU += time.Duration(n) * tick
				}
			}
		case len(words) == 2 && string(words[0]) == "btime":
			n, failed := strconv.ParseInt(string(words[1]), 10, 64)
			err = errors.Join(err, failed)
			m.Started = time.Unix(n, 0)
		}
	}
	if err != nil {
		return m, fmt.Errorf("reading the machine's time: %w", err)
	}
	return m, nil
}

// readCounts reads what is counted elsewhere.
func (m *Machine) readCounts(proc string) error {
	pages, err := os.ReadFile(filepath.Join(proc, "vmstat"))
	if err != nil {
		return fmt.Errorf("counting faults of pages: %w", err)
	}
	for line := range bytes.Lines(pages) {
		if words := bytes.Fields(line); len(words) == 2 {
			switch n, _ := strconv.ParseUint(string(words[1]), 10, 64); string(words[0]) {
			case "pgfault":
				m.Faults = n
			case "pgmajfault":
				m.MajorFaults = n
			}
		}
	}
	load, err := os.ReadFile(filepath.Join(proc, "loadavg"))
	if err != nil {
		return fmt.Errorf("counting processes: %w", err)
	}
	if words := bytes.Fields(load); len(words) > 3 { // proc_loadavg(5): running/all
		_, all, _ := bytes.Cut(words[3], []byte("/"))
		m.Processes, _ = strconv.ParseUint(string(all), 10, 64)
	}
	limit, err := os.ReadFile(filepath.Join(proc, "sys/kernel/pid_max"))
	if err != nil {
		return fmt.Errorf("reading a limit of the kernel: %w", err)
	}
	m.MaxPID, err = strconv.ParseUint(string(bytes.TrimSpace(limit)), 10, 64)
	return err
}

// Link is what went through a link: octets, and packets that could not.
type Link struct {
	Name                      string
	Received, Sent            uint64
	ReceiveErrors, SendErrors uint64
}

// Links lists the links of the network namespace that the calling thread is in, but loopback.
func Links() ([]Link, error) {
	raw, err := os.ReadFile("/proc/thread-self/net/dev")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the links: %w: is /proc mounted?", err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the links: %w", err)
	}
	return parseLinks(raw)
}

func parseLinks(raw []byte) ([]Link, error) {
	var all []Link
	for line := range bytes.Lines(raw) {
		name, rest, found := bytes.Cut(line, []byte(":"))
		if !found {
			continue // the head of the table
		}
		l := Link{Name: string(bytes.TrimSpace(name))}
		words := bytes.Fields(rest)
		if l.Name == "lo" {
			continue
		}
		if len(words) < 12 {
			return nil, fmt.Errorf("the line of link %s has only %d figures", l.Name, len(words))
		}
		for at, to := range map[int]*uint64{0: &l.Received, 2: &l.ReceiveErrors, 8: &l.Sent, 10: &l.SendErrors} {
			n, err := strconv.ParseUint(string(words[at]), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("reading the figures of link %s: %w", l.Name, err)
			}
			*to = n
		}
		all = append(all, l)
	}
	return all, nil
}
