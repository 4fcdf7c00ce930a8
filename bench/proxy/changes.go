package main

import (
	"context"
	"time"
)

// change (d): from before the request that changes the EndpointSlice, and from its answer, until a new connection
// reaches the new endpoints.
func (k *contender) change(ctx context.Context, c *cluster, i int) error {
	port, want := int32(portNew), byte('n')
	if c.letterOf(i) == want {
		port, want = portOld, 'o'
	}
	asking, done := make(chan struct{}), make(chan error, 1)
	var end time.Time
	go func() {
		done <- k.client().do(func() error {
			close(asking)
			err := await(ctx, to(c.services[i]), want, time.Now().Add(2*time.Minute))
			end = time.Now()
			return err
		})
	}()
	select {
	case <-asking:
	case err := <-done:
		return err
	}
	time.Sleep(5 * time.Millisecond) // by now it has asked
	began := time.Now()
	if err := c.move(ctx, i, port); err != nil {
		return err
	}
	committed := time.Now()
	err := <-done
	k.changes = append(k.changes, end.Sub(began))
	k.committed = append(k.committed, max(0, end.Sub(committed)))
	return err
}

// endure (f): a number of changes one after the other, as fast as the API takes them.
func (k *contender) endure(ctx context.Context, c *cluster, changes int) error {
	before, err := k.proc.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	last := 0
	for j := range changes {
		last = j % len(c.services)
		port := int32(portNew)
		if c.portOf(last) == portNew {
			port = portOld
		}
		if err := c.move(ctx, last, port); err != nil {
			return err
		}
	}
	err = k.client().do(func() error {
		return await(ctx, to(c.services[last]), c.letterOf(last), time.Now().Add(5*time.Minute))
	})
	if err != nil {
		return err
	}
	k.storm = time.Since(began)
	time.Sleep(2 * time.Second) // what is still under way is theirs, too
	after, err := k.proc.cpu()
	if err != nil {
		return err
	}
	k.cpu = after - before
	k.rss, k.rssMost, err = k.proc.memory()
	return err
}
