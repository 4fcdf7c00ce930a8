package pace

import (
	"errors"
	"fmt"
	"math"
	"os"
	"testing"
	"time"
)

// TestPace plays peers against a clock of its own. A step waits for a time, then counts octets; pause is time in which
// nobody waits.
func TestPace(t *testing.T) {
	type step struct {
		pause, wait time.Duration
		octets      int64
		times       int // 0: once
	}
	usual := Limit{Rate: 240, Grace: 5 * time.Second, Most: time.Minute}
	for name, test := range map[string]struct {
		limit Limit
		steps []step
		slow  time.Duration // of waiting, after which it is; 0: never
	}{
		"nothing comes":                      {usual, []step{{wait: time.Second, times: 100}}, 5 * time.Second},
		"an octet a second":                  {usual, []step{{wait: time.Second, octets: 1, times: 1000}}, 6 * time.Second},
		"just the rate":                      {usual, []step{{wait: time.Second, octets: 240, times: 100000}}, 0},
		"the rate, in steps":                 {usual, []step{{wait: 4 * time.Second, octets: 960, times: 1000}}, 0},
		"below the rate":                     {usual, []step{{wait: time.Second, octets: 239, times: 100000}}, 961 * time.Second},
		"time in which nobody waits":         {usual, []step{{pause: time.Hour, wait: time.Millisecond, octets: 1, times: 1000}}, 0},
		"much, then nothing":                 {usual, []step{{wait: time.Second, octets: 1 << 20}, {wait: time.Second, times: 100}}, 61 * time.Second},
		"a little, then nothing":             {usual, []step{{octets: 2400}, {wait: time.Second, times: 100}}, 15 * time.Second},
		"much, then an octet a second":       {usual, []step{{octets: 1 << 20}, {wait: time.Second, octets: 1, times: 1000}}, 61 * time.Second},
		"more than a number holds":           {usual, []step{{octets: math.MaxInt64}, {wait: time.Second, times: 100}}, 60 * time.Second},
		"less than nothing":                  {usual, []step{{octets: -1 << 40}, {wait: time.Second, times: 100}}, 5 * time.Second},
		"no rate, an octet now and then":     {Limit{Grace: time.Second, Most: time.Minute}, []step{{wait: 59 * time.Second, octets: 1, times: 100}}, 0},
		"no rate, nothing":                   {Limit{Grace: time.Second, Most: time.Minute}, []step{{wait: time.Second, times: 100}}, 60 * time.Second},
		"a grace longer than the most":       {Limit{Rate: 1, Grace: time.Hour, Most: time.Second}, []step{{wait: 100 * time.Millisecond, times: 100}}, time.Second},
		"a wait that is longer than allowed": {usual, []step{{wait: time.Hour, octets: 240}, {wait: time.Second}}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			var m Meter
			m.Start(&test.limit)
			now, waited := time.Unix(1000, 0), time.Duration(0)
			for _, s := range test.steps {
				for range max(s.times, 1) {
					now = now.Add(s.pause)
					by := m.Wait(now)
					if s.wait > 0 && by.Sub(now) > max(test.limit.Grace, time.Millisecond) {
						t.Fatalf("after %v: a wait of %v", waited, by.Sub(now))
					}
					now, waited = now.Add(s.wait), waited+s.wait
					m.Done(now)
					if m.Slow() && by.After(now) {
						t.Fatalf("after %v: slow %v before the deadline", waited, by.Sub(now))
					}
					if m.Slow() {
						if waited != test.slow {
							t.Fatalf("slow after %v, want %v", waited, test.slow)
						}
						return
					}
					m.Add(s.octets)
				}
			}
			if test.slow != 0 {
				t.Fatalf("not slow, want it after %v", test.slow)
			}
		})
	}
}

// TestSeveralWait: what two wait for at the same time counts once, and octets lengthen both waits.
func TestSeveralWait(t *testing.T) {
	var m Meter
	m.Start(&Limit{Rate: 10, Grace: 10 * time.Second, Most: 20 * time.Second})
	at := func(s int) time.Time { return time.Unix(1000+int64(s), 0) }
	if by := m.Wait(at(0)); !by.Equal(at(10)) {
		t.Errorf("the first has until %v", by)
	}
	if by := m.Wait(at(4)); !by.Equal(at(10)) {
		t.Errorf("the second has until %v", by)
	}
	m.Done(at(6))
	m.Add(50)
	m.Done(at(8))
	if by := m.Wait(at(100)); !by.Equal(at(107)) {
		t.Errorf("the next has until %v", by)
	}
}

func TestErrSlow(t *testing.T) {
	var timeout interface{ Timeout() bool }
	err := fmt.Errorf("writing: %w", ErrSlow)
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v is no timeout", err)
	}
}
