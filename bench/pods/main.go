package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

type options struct {
	dir      string
	svcplane string
	peer     string
	mark     string
	cgroup   string
	single   int
	together int
}

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", "", "directory of the runtimes, on the disk that is to be measured")
	flag.StringVar(&o.svcplane, "svcplane", "bin/svcplane", "the program that our containers' shim is")
	flag.StringVar(&o.peer, "containerd", "", "CRI socket of containerd; empty: ours alone")
	flag.StringVar(&o.mark, "mark", "bin/bench-mark", "the program in the image")
	flag.StringVar(&o.cgroup, "cgroup", "/svcplane-bench", "cgroup that containerd puts pods' cgroups in")
	flag.IntVar(&o.single, "single", 20, "pods one after the other, contenders by turns")
	flag.IntVar(&o.together, "together", 50, "pods at once")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-pods:", err)
		os.Exit(1)
	}
}

func run(o options) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	archive := filepath.Join(o.dir, "image.tar")
	if err := writeImage(o.mark, archive); err != nil {
		return err
	}
	marks, err := listen(filepath.Join(o.dir, "marks"))
	if err != nil {
		return err
	}
	defer marks.close()
	all, err := contenders(ctx, o, archive)
	for _, c := range all {
		defer func() { err = errors.Join(err, c.close()) }()
	}
	if err != nil {
		return err
	}
	if err := inTurns(ctx, all, marks, o.single); err != nil {
		return err
	}
	return atOnce(ctx, all, marks, o.together)
}

// inTurns starts pods one after the other and prints how long it took until each one's process ran.
func inTurns(ctx context.Context, all []*contender, marks *marks, n int) error {
	took := make([][]time.Duration, len(all))
	for i := range n + 1 { // the first warms up
		for c, by := range all {
			p := newPod(by, marks, fmt.Sprintf("single-%d", i))
			d, err := p.start(ctx)
			if err == nil {
				err = p.remove(ctx)
			}
			if err != nil {
				return fmt.Errorf("%s, pod %s: %w", by.name, p.name, err)
			}
			if i > 0 {
				took[c] = append(took[c], d)
			}
		}
	}
	fmt.Printf("from a cached image to a process that runs, %d pods one after the other\n", n)
	report(all, "p50", took, 0.5)
	report(all, "p90", took, 0.9)
	return nil
}

func report(all []*contender, what string, took [][]time.Duration, quantile float64) {
	for c, by := range all {
		slices.Sort(took[c])
		d := at(took[c], quantile)
		fmt.Printf("  %-4s %-12s %8.1f ms   %.2f of %s\n", what, by.name, millis(d), float64(d)/float64(at(took[len(all)-1], quantile)), all[len(all)-1].name)
	}
}

func at(sorted []time.Duration, quantile float64) time.Duration {
	slices.Sort(sorted)
	return sorted[int(quantile*float64(len(sorted)-1))]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// workers start pods at once, as many as the kubelet's pods do on a small machine.
const workers = 10

// atOnce starts n pods together and prints when the last one's process ran, and what they occupy.
func atOnce(ctx context.Context, all []*contender, marks *marks, n int) error {
	fmt.Printf("%d pods of one image, %d at a time\n", n, workers)
	var last []time.Duration
	for _, by := range all {
		disk := used(by.root)
		pods := make([]*pod, n)
		began := time.Now()
		err := each(n, func(i int) (err error) {
			pods[i] = newPod(by, marks, fmt.Sprintf("together-%d", i))
			_, err = pods[i].start(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", by.name, err)
		}
		last = append(last, time.Since(began))
		fmt.Printf("  %-12s all run after %6.2f s; disk %.1f MB; memory of runtime and shims %.0f MB\n", by.name, last[len(last)-1].Seconds(),
			float64(used(by.root)-disk)/1e6, float64(by.memory())/1e6)
		if err := each(n, func(i int) error { return pods[i].remove(ctx) }); err != nil {
			return fmt.Errorf("%s: %w", by.name, err)
		}
	}
	fmt.Printf("  ours takes %.2f of what %s does\n", float64(last[0])/float64(last[len(last)-1]), all[len(all)-1].name)
	return nil
}

// each calls f for 0 to n-1, workers at a time.
func each(n int, f func(int) error) error {
	next, errs := make(chan int), make(chan error, workers)
	for range workers {
		go func() {
			var err error
			for i := range next {
				if err == nil {
					err = f(i)
				}
			}
			errs <- err
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	var all []error
	for range workers {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}
