package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are how large and how long.
type options struct {
	server, ours, peer string
	sizes              []int
	rounds, starts     int
	changes, storm     int
	connects           int
	period             time.Duration
}

func main() {
	var o options
	sizes := flag.String("sizes", "10,1000,10000", "numbers of Services")
	flag.StringVar(&o.server, "svcplane", "bin/svcplane", "the server, for its API")
	flag.StringVar(&o.ours, "ours", "bin/bench-ours", "our proxy alone")
	flag.StringVar(&o.peer, "kube-proxy", "bin/kube-proxy", "the peer")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of traffic, contenders by turns")
	flag.IntVar(&o.starts, "starts", 2, "starts of each contender")
	flag.IntVar(&o.changes, "changes", 15, "single changes of each contender")
	flag.IntVar(&o.storm, "storm", 1000, "changes in a row at the largest size")
	flag.IntVar(&o.connects, "connects", 400, "connections to each Service and round")
	flag.DurationVar(&o.period, "period", time.Second, "length of a measurement of rate or throughput")
	flag.Parse()
	for _, text := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 3 {
			fmt.Fprintf(os.Stderr, "bench: --sizes %s: must be numbers of 3 and more\n", *sizes)
			os.Exit(2)
		}
		o.sizes = append(o.sizes, n)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	c, err := newCluster(o.server)
	if c != nil {
		defer c.down()
	}
	if err != nil {
		return fmt.Errorf("starting the API server: %w", err)
	}
	for i, size := range o.sizes {
		prefix := strings.TrimSuffix(c.ns, "-api") + fmt.Sprintf("-%d", i)
		all := contenders(o.ours, o.peer, prefix, c.ns)
		err := measure(ctx, o, c, all, size, i == len(o.sizes)-1)
		for _, k := range all {
			k.down()
		}
		if err != nil {
			return err
		}
		report(all, size)
	}
	return nil
}

// streaming makes the Service whose pods stream.
func (c *cluster) streaming(ctx context.Context) (string, error) {
	i := len(c.services)
	if err := c.grow(ctx, i+1); err != nil {
		return "", err
	}
	return c.services[i], c.move(ctx, i, portStream)
}

func measure(ctx context.Context, o options, c *cluster, all []*contender, size int, largest bool) error {
	began := time.Now()
	if err := c.grow(ctx, size-1); err != nil {
		return fmt.Errorf("making services: %w", err)
	}
	streaming, err := c.streaming(ctx)
	if err != nil {
		return err
	}
	c.services = c.services[:size-1] // those that say a letter
	fmt.Printf("\n%d services x %d endpoints, made in %.1f s; load %s\n", size, endpoints, time.Since(began).Seconds(), load())
	steps := []func() error{
		func() error { return starting(ctx, o, c, all) },
		func() error { return traffic(o, c, all, streaming) },
		func() error { return changing(ctx, o, c, all) },
	}
	if largest {
		steps = append(steps, func() error { return storming(ctx, o, c, all) })
	}
	for _, step := range steps {
		if err := errors.Join(context.Cause(ctx), step()); err != nil {
			return err
		}
	}
	// the one that streamed is one of the others at the next size
	c.services = append(c.services, streaming)
	return c.move(ctx, size-1, portOld)
}

func starting(ctx context.Context, o options, c *cluster, all []*contender) error {
	for round := range o.starts {
		for _, k := range all {
			if round == 0 {
				if err := c.addNode(ctx, k.network.node, k.network.nodeIP()); err != nil {
					return err
				}
			} else {
				k.down()
			}
			if err := k.up(c); err != nil {
				return fmt.Errorf("the network of %s: %w", k.name, err)
			}
			if err := k.start(ctx, c, 10*time.Minute); err != nil {
				return fmt.Errorf("starting %s: %w", k.name, err)
			}
			time.Sleep(time.Second)
			k.pause()
		}
	}
	return nil
}

func traffic(o options, c *cluster, all []*contender, streaming string) error {
	orders := map[*contender][]string{}
	for _, k := range all {
		order, err := k.sorted(c)
		if err != nil {
			return err
		}
		orders[k] = order
	}
	for range o.rounds {
		for _, k := range all {
			if err := k.traffic(orders[k], streaming, o.connects, o.period); err != nil {
				return fmt.Errorf("traffic of %s: %w", k.name, err)
			}
		}
	}
	return nil
}

// settle waits until a contender that was stopped has seen what happened meanwhile.
func settle(ctx context.Context, c *cluster, k *contender) error {
	k.resume()
	return within(k.network.client, func() error {
		for i := range c.generation {
			if i < len(c.services) {
				if err := await(ctx, to(c.services[i]), c.letterOf(i), time.Now().Add(5*time.Minute)); err != nil {
					return fmt.Errorf("%s after a pause: %w", k.name, err)
				}
			}
		}
		return nil
	})
}

func changing(ctx context.Context, o options, c *cluster, all []*contender) error {
	const atOnce = 5
	for done := 0; done < o.changes; done += atOnce {
		for _, k := range all {
			if err := settle(ctx, c, k); err != nil {
				return err
			}
			for j := range atOnce {
				// kube-proxy waits a second between two syncs by default: the next change is alone, too
				time.Sleep(1500 * time.Millisecond)
				if err := k.change(ctx, c, (done+j)%len(c.services)); err != nil {
					return fmt.Errorf("a change with %s: %w", k.name, err)
				}
			}
			k.pause()
		}
	}
	return nil
}

func storming(ctx context.Context, o options, c *cluster, all []*contender) error {
	for _, k := range all {
		if err := settle(ctx, c, k); err != nil {
			return err
		}
		time.Sleep(3 * time.Second)
		if err := k.endure(ctx, c, o.storm); err != nil {
			return fmt.Errorf("%d changes with %s: %w", o.storm, k.name, err)
		}
		k.pause()
	}
	return nil
}

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
