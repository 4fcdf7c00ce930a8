package ebpf

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/klog/v2"
)

// Scheduler is how an endpoint is chosen for a client that has none yet; with affinity it is for its first connection.
type Scheduler uint32

const (
	// Random: any of them.
	Random Scheduler = iota
	// Maglev: one tuple of addresses and ports leads to one endpoint on every node, and when one of n endpoints goes,
	// only its tuples go elsewhere. Sockets of the node have no port yet when they are connected, and get any of them.
	Maglev
	// RoundRobin: one after the other.
	RoundRobin
	// LeastConnections: that of at most 8 which has the fewest open connections.
	LeastConnections
)

var schedulerNames = []string{Random: "random", Maglev: "maglev", RoundRobin: "round-robin", LeastConnections: "least-connections"}

func (s Scheduler) String() string { return schedulerNames[s] }

// ParseScheduler reads a name.
func ParseScheduler(name string) (Scheduler, error) {
	if i := slices.Index(schedulerNames, name); i >= 0 {
		return Scheduler(i), nil
	}
	last := len(schedulerNames) - 1
	return 0, fmt.Errorf("%q: must be %s or %s", name, strings.Join(schedulerNames[:last], ", "), schedulerNames[last])
}

// relieveLooks is how many looks relieve takes at most.
const relieveLooks = 3

// relieve puts right how many connections the programs take endpoints to have: they are not told when an entry of
// the oldest has to give way, or that a connection has ended in silence. What changes meanwhile is looked
// at again, and then waits for the next time. d.mu is held.
func (d *Dataplane) relieve() error {
	if d.kernel == nil || d.model == nil || d.cfg.Scheduler != LeastConnections {
		return nil
	}
	for range relieveLooks {
		if changed, err := d.relieveQuiet(); !changed || err != nil {
			return err
		}
	}
	return nil
}

// relieveQuiet is one look; changed says that some endpoints were left out because their number changed.
func (d *Dataplane) relieveQuiet() (changed bool, err error) {
	before, err := d.kernel.read(mapLoads)
	if err != nil {
		return false, err
	}
	open, err := d.openNow(true)
	if err != nil {
		return false, err
	}
	want := map[string]uint64{}
	for key, n := range open {
		want[key.slot()] += n
	}
	now, err := d.kernel.read(mapLoads)
	if err != nil {
		return false, err
	}
	var s step
	for key, value := range now {
		n := string(native.AppendUint64(nil, want[key]))
		delete(want, key)
		if before[key] != value || value == n {
			changed = changed || before[key] != value
			continue
		}
		if e := (entry{mapLoads, key, n}); native.Uint64([]byte(n)) > 0 {
			s.puts = append(s.puts, e)
		} else {
			s.removes = append(s.removes, e)
		}
	}
	for key, n := range want {
		if before[key] == "" {
			s.puts = append(s.puts, entry{mapLoads, key, string(native.AppendUint64(nil, n))})
		}
	}
	return changed, write(d.kernel, s)
}

// forgetTurns removes the turns of sets that are gone.
func (d *Dataplane) forgetTurns() error {
	turns, err := d.kernel.read(mapTurns)
	if err != nil {
		return err
	}
	for key := range turns {
		if d.model.refs[object{mapSlots, native.Uint64([]byte(key))}] > 0 {
			continue
		}
		if err := d.kernel.remove(entry{table: mapTurns, key: key}); err != nil {
			return err
		}
	}
	return nil
}

// tidy does from time to time what nothing tells of.
func (d *Dataplane) tidy() {
	err := d.tidyTallies()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && d.kernel != nil && d.model != nil {
		if err = d.relieve(); err == nil {
			err = d.forgetTurns()
		}
	}
	if err != nil {
		klog.ErrorS(err, "counters of what is gone may stay, and endpoints may seem busy that are not; it is tried again")
	}
}
