package node

import (
	"context"
	"fmt"
	"time"
)

// tellAfter is how long a pull takes before anything is told of it, and tellEvery the time between two of its Events at first;
// it doubles, so that a pull of hours has a dozen.
const tellAfter, tellEvery = 5 * time.Second, 15 * time.Second

// refreshEvery is how often the waiting message of a container follows a pull.
const refreshEvery = 5 * time.Second

// progress tells how far a pull is.
type progress struct {
	image string
	look  func() (done, total int64, ok bool)
	event func(text string) // of the pod
	wait  func(text string) // for what the container waits
}

// follow tells until ended is closed.
func (p *progress) follow(ctx context.Context, ended <-chan struct{}) {
	if p.look == nil {
		select {
		case <-ended:
		case <-ctx.Done():
		}
		return
	}
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	began, last := time.Now(), int64(0)
	next, pause := tellAfter, tellEvery
	for at := began; ; {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			return
		case now := <-tick.C:
			done, total, ok := p.look()
			if !ok {
				continue
			}
			text := progressText(p.image, done, total, done-last, now.Sub(at))
			p.wait(text)
			if now.Sub(began) >= next-time.Second {
				p.event(text)
				next, pause = now.Sub(began)+pause, 2*pause
			}
			at, last = now, done
		}
	}
}

// progressText says what share is there, and how fast the rest comes.
func progressText(image string, done, total, came int64, in time.Duration) string {
	if total <= 0 {
		return fmt.Sprintf("Pulling image %q: waiting for its manifest", image)
	}
	done = min(done, total)
	if done == total {
		return fmt.Sprintf("Pulling image %q: all %s are here, unpacking", image, megabytes(total))
	}
	speed := int64(0)
	if in > 0 {
		speed = max(0, int64(float64(came)/in.Seconds()))
	}
	return fmt.Sprintf("Pulling image %q: %d%% of %s, %s/s", image, done*100/total, megabytes(total), megabytes(speed))
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
