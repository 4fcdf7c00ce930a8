package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"k8s.io/klog/v2"

	"svcplane/node/footprint"
)

// steadyGCPercent trades processor time for memory once the process has started: it allocates little when
// nothing happens, and most of its heap lives as long as it does. docs/decisions.md has the numbers.
const steadyGCPercent = 25

// settleAfter is when the start's garbage is collected and given back, counted from the ready line: upstream
// components go on filling caches for a moment.
var settleAfter = []time.Duration{0, 5 * time.Second, 30 * time.Second}

// settle makes the process small after the start. GOGC in the environment wins.
func settle(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(steadyGCPercent)
	}
	began := time.Now()
	for _, after := range settleAfter {
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
