package server

import "testing"

func TestBurstOfCollections(t *testing.T) {
	b := burst{last: 40} // those of the start count for none
	count := uint64(40)
	for i, step := range []struct {
		more int
		want burstChange
	}{
		{0, burstGoesOn}, {1, burstGoesOn}, {1, burstGoesOn}, {2, burstBegins}, {5, burstGoesOn}, {0, burstGoesOn}, {1, burstGoesOn},
	} {
		count += uint64(step.more)
		if got := b.next(count); got != step.want {
			t.Fatalf("second %d: %d, want %d", i, got, step.want)
		}
	}
	for i := 1; i < burstQuiet; i++ {
		if got := b.next(count); got != burstGoesOn {
			t.Fatalf("after %d quiet seconds: %d", i, got)
		}
	}
	if got := b.next(count); got != burstEnds {
		t.Errorf("after %d quiet seconds: %d, want its end", burstQuiet, got)
	}
	if got := b.next(count); got != burstGoesOn {
		t.Errorf("it ends once, and not again: %d", got)
	}
}
