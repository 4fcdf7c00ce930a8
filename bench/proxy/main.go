package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
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
	slices             int
	slice              time.Duration
	legacy             bool
	only               string
}

func main() {
	var o options
	sizes := flag.String("sizes", "10,1000,10000", "numbers of Services")
	flag.StringVar(&o.server, "svcplane", "bin/svcplane", "the server, for its API")
	flag.StringVar(&o.ours, "ours", "bin/bench-ours", "our proxy alone")
	flag.StringVar(&o.peer, "kube-proxy", "bin/kube-proxy", "the peer")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of traffic, contenders by turns")
	flag.IntVar(&o.starts, "starts", 2, "starts of each contender")
	flag.IntVar(&o.changes, "changes", 10, "single changes of each contender")
	flag.IntVar(&o.storm, "storm", 1000, "changes in a row at the largest size")
	flag.IntVar(&o.connects, "connects", 400, "connections to each Service and round")
	flag.DurationVar(&o.period, "period", time.Second, "length of a measurement of rate or throughput")
	flag.IntVar(&o.slices, "slices", 11, "rounds of the exchanges that one thread makes, contenders by turns")
	flag.DurationVar(&o.slice, "slice", 200*time.Millisecond, "length of one of them")
	flag.BoolVar(&o.legacy, "legacy", false, "svcplane with legacy iptables, too")
	flag.StringVar(&o.only, "only", "", "contenders to leave the others out, beginnings of their names, with commas; eBPF stays in")
	flag.Parse()
	for _, text := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < specialServices+3 {
			fmt.Fprintf(os.Stderr, "bench: --sizes %s: must be numbers of %d and more\n", *sizes, specialServices+3)
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
	ours, err := newCgroup(strings.TrimSuffix(c.ns, "-api"))
	if err != nil {
		return err
	}
	defer ours.remove()
	if err := c.createSpecials(ctx); err != nil {
		return fmt.Errorf("making services: %w", err)
	}
	var results []result
	for i, size := range o.sizes {
		prefix := strings.TrimSuffix(c.ns, "-api") + fmt.Sprintf("-%d", i)
		all := contenders(o, prefix, c.ns, ours)
		err := measure(ctx, o, c, all, size, i == len(o.sizes)-1)
		for _, k := range all {
			k.down(o)
		}
		if err != nil {
			return err
		}
		report(all, size)
		results = append(results, result{size, all})
		compare(results[len(results)-1:])
	}
	if len(results) > 1 {
		compare(results)
	}
	return nil
}

func measure(ctx context.Context, o options, c *cluster, all []*contender, size int, largest bool) error {
	began := time.Now()
	if err := c.grow(ctx, size-specialServices); err != nil {
		return fmt.Errorf("making services: %w", err)
	}
	fmt.Printf("\n%d services x %d endpoints, made in %.1f s; load %s\n", size, endpoints, time.Since(began).Seconds(), load())
	steps := []func(context.Context, options, *cluster, []*contender) error{starting, ordering, traffic, exchanging, changing}
	if largest {
		steps = append(steps, storming, widening)
	}
	for _, step := range steps {
		if err := errors.Join(context.Cause(ctx), step(ctx, o, c, all)); err != nil {
			return err
		}
	}
	return nil
}

// longStart is how long a start takes that nobody has to see twice.
const longStart = 30 * time.Second

func starting(ctx context.Context, o options, c *cluster, all []*contender) error {
	for round := range o.starts {
		for _, k := range all {
			if round > 0 && (k.words == nil || k.starts[0] > longStart) {
				continue
			}
			if round == 0 {
				if err := c.addNode(ctx, k.network.node, k.network.nodeIP()); err != nil {
					return err
				}
			} else {
				k.down(o)
			}
			if err := k.up(); err != nil {
				return fmt.Errorf("the network of %s: %w", k.name, err)
			}
			if err := k.start(ctx, c, 10*time.Minute); err != nil {
				return fmt.Errorf("starting %s: %w; it said:\n%s", k.name, err, k.said(c))
			}
			time.Sleep(time.Second)
			k.pause()
		}
	}
	return nil
}

// ordering finds out where the Services stand.
func ordering(_ context.Context, _ options, c *cluster, all []*contender) (err error) {
	for _, k := range all {
		if k.order, err = k.sorted(c); err != nil {
			return err
		}
	}
	return nil
}

func traffic(ctx context.Context, o options, c *cluster, all []*contender) error {
	for range o.rounds {
		for _, k := range all {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := k.traffic(c, o.connects, o.period); err != nil {
				return fmt.Errorf("traffic of %s: %w", k.name, err)
			}
		}
	}
	return nil
}

// proxies are the contenders that are one.
func proxies(all []*contender) []*contender {
	return slices.DeleteFunc(slices.Clone(all), func(k *contender) bool { return k.words == nil })
}

// settle waits until a contender that was stopped has seen what happened meanwhile.
func settle(ctx context.Context, c *cluster, k *contender) error {
	k.resume()
	return k.client().do(func() error {
		for i := range c.generation {
			if err := await(ctx, to(c.services[i]), c.letterOf(i), time.Now().Add(5*time.Minute)); err != nil {
				return fmt.Errorf("%s after a pause: %w", k.name, err)
			}
		}
		return nil
	})
}

func changing(ctx context.Context, o options, c *cluster, all []*contender) error {
	const atOnce = 5
	for done := 0; done < o.changes; done += atOnce {
		for _, k := range proxies(all) {
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
	for _, k := range proxies(all) {
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

// widening (n): what the maps take when every Service has many endpoints.
func widening(ctx context.Context, _ options, c *cluster, all []*contender) error {
	k := find(all, ourEBPF)
	if err := settle(ctx, c, k); err != nil {
		return err
	}
	if err := c.widen(ctx); err != nil {
		return fmt.Errorf("giving services %d endpoints: %w", manyEndpoints, err)
	}
	// it has them all when the maps grow no more
	for same := 0; same < 10; time.Sleep(200 * time.Millisecond) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		now, err := k.proc.maps()
		if err != nil {
			return err
		}
		if same++; now != k.maps {
			k.maps, same = now, 0
		}
	}
	k.pause()
	return nil
}

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
