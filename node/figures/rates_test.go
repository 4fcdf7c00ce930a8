package figures

import (
	"testing"
	"time"
)

// TestRates: a rate is about the last seconds, as soon as there is anything to compare with.
func TestRates(t *testing.T) {
	begin := time.Unix(1000, 0)
	at := func(seconds float64, cpu time.Duration) Sample {
		return Sample{At: begin.Add(time.Duration(seconds * float64(time.Second))), CPU: cpu}
	}
	for _, tt := range []struct {
		name    string
		since   time.Time
		samples []Sample
		cores   float64 // -1: not known
		window  time.Duration
	}{
		{"nothing to compare with", time.Time{}, []Sample{at(0, time.Second)}, -1, 0},
		{"too soon after the first look", time.Time{}, []Sample{at(0, 0), at(0.5, time.Second)}, -1, 0},
		{"two looks", time.Time{}, []Sample{at(0, time.Second), at(2, 2*time.Second)}, 0.5, 2 * time.Second},
		{"of a young container, since its start", begin, []Sample{at(2, time.Second)}, 0.5, 2 * time.Second},
		{"of one that was just started", begin, []Sample{at(0.1, time.Second)}, -1, 0},
		{"of an old one, not since its start", begin.Add(-time.Hour), []Sample{at(0, time.Second)}, -1, 0},
		{"a load that began a while ago", time.Time{}, []Sample{at(0, 0), at(5, 0), at(10, 0), at(15, 5*time.Second)}, 1, 5 * time.Second},
		{"looks in quick succession", time.Time{}, []Sample{at(0, 0), at(5, 0), at(6, time.Second), at(7, 2*time.Second), at(10, 5*time.Second)}, 1, 5 * time.Second},
		{"what was long ago says nothing", time.Time{}, []Sample{at(0, 0), at(100, time.Second)}, -1, 0},
		{"another container by the same name", time.Time{}, []Sample{at(0, time.Hour), at(5, time.Second)}, -1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rates Rates
			var got *Rate
			for _, s := range tt.samples {
				got = rates.Add("c", tt.since, s)
			}
			switch {
			case (got == nil) != (tt.cores < 0):
				t.Errorf("the rate is %+v", got)
			case got != nil && (got.NanoCores != uint64(tt.cores*1e9) || got.Window != tt.window):
				t.Errorf("%d billionths over %v, want %v over %v", got.NanoCores, got.Window, tt.cores, tt.window)
			}
		})
	}
}

func TestRatesForget(t *testing.T) {
	var rates Rates
	rates.Add("a", time.Time{}, Sample{At: time.Unix(1, 0)})
	rates.Add("b", time.Time{}, Sample{At: time.Unix(1, 0)})
	rates.Retain(map[string]bool{"b": true})
	if rates.Add("a", time.Time{}, Sample{At: time.Unix(5, 0), CPU: 1}) != nil || rates.Add("b", time.Time{}, Sample{At: time.Unix(5, 0), CPU: 1}) == nil {
		t.Error("the wrong one was forgotten")
	}
	for i := range 1000 {
		rates.Add("b", time.Time{}, Sample{At: time.Unix(int64(i), 0)})
	}
	if n := len(rates.kept["b"]); n > int(keep/apart)+2 {
		t.Errorf("%d samples are kept", n)
	}
}
