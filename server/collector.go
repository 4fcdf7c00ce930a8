package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"k8s.io/klog/v2"

	"svcplane/node/runtime/footprint"
)

// steadyGCPercent trades processor time for memory once the process has started: it allocates little when
// nothing happens, and most of its heap lives as long as it does. docs/decisions.md has the numbers.
const steadyGCPercent = 25

// burstGCPercent is for as long as much is allocated: a collection each time that a quarter of the heap is new takes 40 % of
// what a burst of work costs. docs/decisions.md has the numbers.
const burstGCPercent = 100

// shrinkAfter is when the start's garbage is collected and given back, counted from the ready line: upstream
// components go on filling caches for a moment.
var shrinkAfter = []time.Duration{0, 5 * time.Second, 30 * time.Second}

// tuneCollector makes the process small after the start, and garbage cheap in bursts of work. GOGC in the environment wins.
func tuneCollector(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(steadyGCPercent)
		go followBursts(ctx)
	}
	began := time.Now()
	for _, after := range shrinkAfter {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(after))):
		}
		if err := footprint.Shrink(); err != nil {
			klog.V(2).InfoS("Giving memory back", "err", err)
		}
	}
}

// followBursts sets how often garbage is collected by how much there is.
func followBursts(ctx context.Context) {
	const look = time.Second
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	b := burst{last: collections()}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch b.next(collections()) {
		case burstBegins:
			debug.SetGCPercent(burstGCPercent)
		case burstEnds:
			debug.SetGCPercent(steadyGCPercent)
			if err := footprint.Shrink(); err != nil {
				klog.V(2).InfoS("Giving memory back", "err", err)
			}
		}
	}
}

// burst gets the number of collections once a second, and says when a burst of them begins and ends.
type burst struct {
	last  uint64
	on    bool
	quiet int // seconds in a row
}

type burstChange int

const (
	burstGoesOn burstChange = iota
	burstBegins
	burstEnds
)

const (
	burstAt    = 2  // collections in a second
	burstQuiet = 10 // seconds without any
)

func (b *burst) next(count uint64) burstChange {
	n := count - b.last
	b.last = count
	if n > 0 {
		b.quiet = 0
	} else {
		b.quiet++
	}
	switch {
	case !b.on && n >= burstAt:
		b.on = true
		return burstBegins
	case b.on && b.quiet >= burstQuiet:
		b.on = false
		return burstEnds
	}
	return burstGoesOn
}

// collections counts those that ended.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
