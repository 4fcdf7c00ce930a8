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

// recountLooks is how many looks recountConns takes at most.
const recountLooks = 3

// recountConns corrects map open_conns: the programs do not see that a full map has dropped its oldest entry, or that a
// connection has ended without a packet. Numbers that change meanwhile are looked at again, and then wait for the next time.
// d.mu is held.
func (d *Dataplane) recountConns() error {
	if d.kernel == nil || d.model == nil || d.cfg.Scheduler != LeastConnections {
		return nil
	}
	for range recountLooks {
		if changed, err := d.recountOnce(); !changed || err != nil {
			return err
		}
	}
	return nil
}

// recountOnce is one look; changed says that some endpoints were left out because their number changed.
func (d *Dataplane) recountOnce() (changed bool, err error) {
	before, err := d.kernel.read(mapOpenConns)
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
	now, err := d.kernel.read(mapOpenConns)
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
		if e := (entry{mapOpenConns, key, n}); native.Uint64([]byte(n)) > 0 {
			s.puts = append(s.puts, e)
		} else {
			s.removes = append(s.removes, e)
		}
	}
	for key, n := range want {
		if before[key] == "" {
			s.puts = append(s.puts, entry{mapOpenConns, key, string(native.AppendUint64(nil, n))})
		}
	}
	return changed, write(d.kernel, s)
}

// forgetCursors removes the turns of sets that are gone.
func (d *Dataplane) forgetCursors() error {
	turns, err := d.kernel.read(mapRRCursor)
	if err != nil {
		return err
	}
	for key := range turns {
		if d.model.refs[object{mapEndpoints, native.Uint64([]byte(key))}] > 0 {
			continue
		}
		if err := d.kernel.remove(entry{table: mapRRCursor, key: key}); err != nil {
			return err
		}
	}
	return nil
}

// tidy does from time to time what nothing tells of.
func (d *Dataplane) tidy() {
	err := d.tidyCounters()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && d.kernel != nil && d.model != nil {
		if err = d.recountConns(); err == nil {
			err = d.forgetCursors()
		}
	}
	if err != nil {
		klog.ErrorS(err, "counters of endpoints that are gone may stay, and open connections may be counted wrong; it is tried again")
	}
}
