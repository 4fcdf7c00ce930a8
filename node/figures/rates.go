package figures

import "time"

// Sample is how much time of processors was used until a moment.
type Sample struct {
	At  time.Time
	CPU time.Duration
}

// Rates makes rates of samples. Of each name it keeps those of the last while.
type Rates struct{ kept map[string][]Sample }

const (
	// goodWindow is what a rate is about, if there are samples: short enough that an autoscaler sees a load that began
	// a moment before its last look but one, long enough that a rate does not jump.
	goodWindow = 5 * time.Second
	// minWindow is the shortest time that a rate may be about: times in /proc come in hundredths of a second.
	minWindow = time.Second
	// keep is how long samples are kept. An older one says nothing about now.
	keep = 30 * time.Second
	// apart is how far apart two samples are kept at least.
	apart = 900 * time.Millisecond
)

// Add keeps a sample and gives the rate until it; nil: there is nothing yet to compare with. Nothing was used before since,
// which is zero if that is not known.
func (r *Rates) Add(name string, since time.Time, now Sample) *Rate {
	if r.kept == nil {
		r.kept = map[string][]Sample{}
	}
	all := r.kept[name]
	for len(all) > 0 && (now.At.Sub(all[0].At) > keep || all[0].CPU > now.CPU) { // another one by the same name
		all = all[1:]
	}
	base, ok := choose(all, now.At)
	if young := !since.IsZero() && now.At.Sub(since) <= keep; !ok && young && now.At.Sub(since) >= minWindow/2 {
		base, ok = Sample{At: since}, true
	}
	if n := len(all); n == 0 || now.At.Sub(all[n-1].At) >= apart {
		all = append(all, now)
	}
	r.kept[name] = all
	if !ok {
		return nil
	}
	window := now.At.Sub(base.At)
	return &Rate{NanoCores: uint64(float64(now.CPU-base.CPU) / window.Seconds()), Window: window}
}

// choose takes the youngest sample that is old enough, and else the oldest that will do.
func choose(all []Sample, now time.Time) (base Sample, ok bool) {
	for _, s := range all {
		age := now.Sub(s.At)
		if age < minWindow || ok && age < goodWindow-minWindow/2 {
			break
		}
		base, ok = s, true
	}
	return base, ok
}

// Retain forgets all other names.
func (r *Rates) Retain(names map[string]bool) {
	for name := range r.kept {
		if !names[name] {
			delete(r.kept, name)
		}
	}
}
