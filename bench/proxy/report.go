package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

// report prints medians, a column for each contender; in brackets how many times that of our iptables it is.
func report(all []*contender, size int) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "at %d services; load %s", size, load())
	for _, k := range all {
		fmt.Fprintf(w, "\t%s", k.name)
	}
	fmt.Fprintln(w)
	row := func(name, unit string, value func(*contender) float64) {
		fmt.Fprint(w, name)
		ours := 0.0
		if k := find(all, ourIPTables); k != nil {
			ours = value(k)
		}
		for _, k := range all {
			v := value(k)
			if v == 0 {
				fmt.Fprint(w, "\t-")
				continue
			}
			fmt.Fprintf(w, "\t%s %s", number(v), unit)
			if k.name != ourIPTables && ours > 0 {
				fmt.Fprintf(w, " (x%s)", number(v/ours))
			}
		}
		fmt.Fprintln(w)
	}
	micros := func(of func(*contender) []time.Duration, q float64) func(*contender) float64 {
		return func(k *contender) float64 { return float64(quantile(of(k), q).Nanoseconds()) / 1000 }
	}
	millis := func(of func(*contender) []time.Duration, q float64) func(*contender) float64 {
		return func(k *contender) float64 { return micros(of, q)(k) / 1000 }
	}
	first := func(k *contender) []time.Duration { return k.first }
	middle := func(k *contender) []time.Duration { return k.middle }
	last := func(k *contender) []time.Duration { return k.last }
	changes := func(k *contender) []time.Duration { return k.changes }
	committed := func(k *contender) []time.Duration { return k.committed }
	starts := func(k *contender) []time.Duration { return k.starts }
	row("(a) connect, first service, median", "us", micros(first, .5))
	row("(a) connect, first service, p99", "us", micros(first, .99))
	row("(a) connect, middle service, median", "us", micros(middle, .5))
	row("(a) connect, middle service, p99", "us", micros(middle, .99))
	row("(a) connect, last service, median", "us", micros(last, .5))
	row("(a) connect, last service, p99", "us", micros(last, .99))
	row("(b) new connections", "/s", func(k *contender) float64 { return quantile(k.rates, .5) })
	row("(c) one connection", "Gbit/s", func(k *contender) float64 { return quantile(k.gbits, .5) })
	row("(d) change to first packet, median", "ms", millis(changes, .5))
	row("(d) change to first packet, worst", "ms", millis(changes, 1))
	row("(d) from the API's answer on, median", "ms", millis(committed, .5))
	row("(e) process start to full sync", "ms", millis(starts, .5))
	if find(all, ourEBPF).storm > 0 {
		row("(f) storm: CPU time", "s", func(k *contender) float64 { return k.cpu.Seconds() })
		row("(f) storm: until in force", "s", func(k *contender) float64 { return k.storm.Seconds() })
		row("(f) resident memory after it", "MiB", func(k *contender) float64 { return k.rss })
		row("(f) resident memory at most", "MiB", func(k *contender) float64 { return k.rssMost })
	}
	_ = w.Flush()
}

// number with three figures.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
