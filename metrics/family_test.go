package metrics

import (
	"maps"
	"testing"
)

func TestWithinCoarserBounds(t *testing.T) {
	total, within := Within([]uint64{1, 2, 3, 4, 5}, []float64{1, 2, 4, 8}, []float64{2, 8})
	if want := map[float64]uint64{2: 3, 8: 10}; total != 15 || !maps.Equal(within, want) {
		t.Errorf("got %d, %v, want 15, %v", total, within, want)
	}
}
