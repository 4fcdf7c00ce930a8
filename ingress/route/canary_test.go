package route

import (
	"math/rand/v2"
	"testing"
)

func TestCanaryWeight(t *testing.T) {
	taken := 0
	for range 10000 {
		if (&Canary{Weight: 30, Total: 100}).Takes(asked{}, rand.IntN) {
			taken++
		}
	}
	if taken < 2700 || taken > 3300 { // six standard deviations
		t.Errorf("a weight of 30%% took %d of 10,000", taken)
	}
}
