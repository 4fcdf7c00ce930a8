package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
)

// Resources are what a cgroup may use. What is zero stays as it is.
type Resources struct {
	Shares    uint64 // of the processors, beside siblings: 1024 for each that was requested
	Quota     int64  // microseconds of processor time in each period; Unlimited: no limit
	Period    uint64 // microseconds
	Memory    int64  // octets; Unlimited: no limit
	NoSwap    bool   // swapped pages count as memory, or are refused
	PIDs      int64  // processes and threads; Unlimited: no limit
	Huge      map[string]uint64
	OOMGroup  bool // when memory is short all processes end together (version 2)
	Container bool // the runtime's conversion of shares to weights, else the kubelet's, which differ
}

// Unlimited takes a limit away.
const Unlimited = -1

// weight is what shares are on version 2.
func (r Resources) weight() uint64 {
	switch {
	case r.Shares == 0:
		return 0
	case r.Container:
		return cgroups.ConvertCPUSharesToCgroupV2Value(r.Shares)
	case r.Shares >= maxShares:
		return maxWeight
	}
	return 1 + (max(r.Shares, minShares)-minShares)*(maxWeight-1)/(maxShares-minShares)
}

const (
	minShares, maxShares = 2, 262144
	maxWeight            = 10000
)

// set writes the resources that controllers of this cgroup's are there for.
func (t *Tree) set(path string, r Resources) error {
	if err := t.setV1(path, r); err != nil {
		return err
	}
	return t.setV2(path, r)
}

func (t *Tree) setV1(path string, r Resources) error {
	paths := map[string]string{}
	for name, root := range t.V1 {
		if t.works(name) {
			paths[name] = filepath.Join(root, path)
		}
	}
	if len(paths) == 0 {
		return nil
	}
	want := t.common(r, func(name string) bool { return paths[name] != "" })
	if paths[CPU] != "" {
		want.CpuShares = r.Shares
	}
	// Equal to the memory: nothing on top of it may be swapped out. Without a limit there is none of both together either.
	if memory := paths[Memory]; memory != "" && r.NoSwap && r.Memory != 0 && exists(memory, "memory.memsw.limit_in_bytes") {
		want.MemorySwap = r.Memory
	}
	m, err := fs.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, paths)
	if err == nil {
		err = m.Set(want)
	}
	if err != nil {
		return fmt.Errorf("limit cgroup %s: %w", path, err)
	}
	return nil
}

func (t *Tree) setV2(path string, r Resources) error {
	dir := filepath.Join(t.Unified, path)
	have := func(name string) bool { return slices.Contains(t.OnV2, name) && t.works(name) && t.V1[name] == "" }
	if t.Unified == "" || !slices.ContainsFunc(controllers[:], have) {
		return nil
	}
	want := t.common(r, have)
	if have(CPU) {
		want.CpuWeight = r.weight()
	}
	want.Unified = map[string]string{}
	if have(Memory) && r.NoSwap && exists(dir, "memory.swap.max") {
		want.Unified["memory.swap.max"] = "0"
	}
	if have(Memory) && r.OOMGroup {
		want.Unified["memory.oom.group"] = "1"
	}
	m, err := fs2.NewManager(&cgroups.Cgroup{}, dir)
	if err == nil {
		err = m.Set(want)
	}
	if err != nil {
		return fmt.Errorf("limit cgroup %s: %w", path, err)
	}
	return nil
}

// common is what both versions take alike.
func (t *Tree) common(r Resources, have func(string) bool) *cgroups.Resources {
	want := &cgroups.Resources{SkipDevices: true, SkipFreezeOnSet: true}
	if have(CPU) {
		want.CpuQuota, want.CpuPeriod = r.Quota, r.Period
	}
	if have(Memory) {
		want.Memory = r.Memory
	}
	if have(PIDs) && r.PIDs != 0 {
		want.PidsLimit = &r.PIDs
	}
	if have(Huge) {
		for _, size := range slices.Sorted(maps.Keys(r.Huge)) {
			want.HugetlbLimit = append(want.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: size, Limit: r.Huge[size]})
		}
	}
	return want
}

func exists(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}

// Get reads back what is in force: shares (0 on version 2, where weights are), quota, period and memory.
func (t *Tree) Get(path string) (Resources, error) {
	r := Resources{Quota: Unlimited, Memory: Unlimited}
	var errs []error
	number := func(controller, file string, into *int64) {
		n, err := t.number(controller, path, file)
		if err == nil {
			*into = n
		}
		errs = append(errs, err)
	}
	if dir := t.V1[CPU]; dir != "" {
		var shares, period int64
		number(CPU, "cpu.shares", &shares)
		number(CPU, "cpu.cfs_quota_us", &r.Quota)
		number(CPU, "cpu.cfs_period_us", &period)
		r.Shares, r.Period = uint64(shares), uint64(period)
	} else if t.works(CPU) {
		raw, err := os.ReadFile(filepath.Join(t.Unified, path, "cpu.max"))
		quota, period, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
		r.Quota = limit(quota)
		r.Period = uint64(max(limit(period), 0))
		errs = append(errs, err)
	}
	if t.V1[Memory] != "" {
		number(Memory, "memory.limit_in_bytes", &r.Memory)
	} else if t.works(Memory) {
		number(Memory, "memory.max", &r.Memory)
	}
	if r.Memory >= 1<<62 {
		r.Memory = Unlimited // what version 1 says for none is that, rounded to pages
	}
	return r, errors.Join(errs...)
}

// MemoryUsed is what is charged to a cgroup, with the cache of its files.
func (t *Tree) MemoryUsed(path string) (int64, error) {
	if t.V1[Memory] != "" {
		return t.number(Memory, path, "memory.usage_in_bytes")
	}
	return t.number(Memory, path, "memory.current")
}

// CPUUsed is the processor time of a cgroup in nanoseconds.
func (t *Tree) CPUUsed(path string) (int64, error) {
	if t.V1[cpuacct] != "" {
		return t.number(cpuacct, path, "cpuacct.usage")
	}
	n, err := keyed(filepath.Join(t.Unified, path, "cpu.stat"), "usage_usec")
	return n * 1000, err
}

func (t *Tree) number(controller, path, file string) (int64, error) {
	root := t.Unified
	if v1 := t.V1[controller]; v1 != "" {
		root = v1
	}
	raw, err := os.ReadFile(filepath.Join(root, path, file))
	if err != nil {
		return 0, fmt.Errorf("read what cgroup %s has: %w", path, err)
	}
	return limit(strings.TrimSpace(string(raw))), nil
}

// limit reads a number, where max means none.
func limit(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return Unlimited
	}
	return n
}

// keyed reads one line of a file of names and numbers.
func keyed(file, name string) (int64, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return limit(f[1]), nil
		}
	}
	return 0, fmt.Errorf("read %s: it has no line %s", file, name)
}

// OOMKills counts the processes of a cgroup that the kernel has ended for want of memory.
func (s System) OOMKills(path string) (int64, error) {
	if root := s.V1[Memory]; root != "" {
		return keyed(filepath.Join(root, path, "memory.oom_control"), "oom_kill")
	}
	return keyed(filepath.Join(s.Unified, path, "memory.events"), "oom_kill")
}

// LimitsSwap says whether the kernel counts what is swapped out.
func (t *Tree) LimitsSwap() bool {
	if root := t.V1[Memory]; root != "" {
		return exists(filepath.Join(root, t.top), "memory.memsw.limit_in_bytes")
	}
	return t.Unified != "" && exists(filepath.Join(t.Unified, t.top), "memory.swap.max")
}

// HugePageSizes are those that the machine has, as the kernel writes them.
func HugePageSizes() []string { return cgroups.HugePageSizes() }
