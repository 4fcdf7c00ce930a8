package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what was measured at a number of Services.
type result struct {
	size int
	all  []*contender
}

// Wanted of eBPF besides what stands with the figures.
const (
	wantedChange = 10 * time.Millisecond
	wantedMaps   = 64.0 // MB, of 10,000 Services of many endpoints
	wantedAlike  = 1.02 // connect: the largest of the ratios to direct at all sizes, of the smallest
	wantedSize   = 10000
)

// compare prints what eBPF is wanted to reach, what it reaches and what it does not.
func compare(results []result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	names := results[0].all
	fmt.Fprint(w, "\neBPF beside\tservices")
	for _, k := range names {
		fmt.Fprintf(w, "\t%s", k.name)
	}
	fmt.Fprintln(w, "\teBPF is\twanted\t")
	for _, f := range figures {
		for _, r := range results {
			fmt.Fprintf(w, "%s\t%d", f.name, r.size)
			for _, k := range r.all {
				fmt.Fprintf(w, "\t%s %s", number(quantile(k.samples[f.name], .5)), f.unit)
			}
			for i, g := range f.wanted {
				if i > 0 {
					fmt.Fprint(w, "\t", strings.Repeat("\t", len(names)))
				}
				v := g.reached(f, r.all)
				fmt.Fprintf(w, "\t%.2f of %s\t%s\t%s\n", v, label(g.against), g, verdict(g.met(v)))
			}
		}
	}
	for _, r := range results {
		others(w, r)
	}
	alike(w, results)
	_ = w.Flush()
}

func label(against []string) string {
	if len(against) > 1 {
		return "the best kube-proxy"
	}
	return against[0]
}

func (g goal) String() string {
	if g.atMost {
		return fmt.Sprintf("at most %.2f", g.bound)
	}
	return fmt.Sprintf("at least %.2f", g.bound)
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "NOT MET"
}

// others are the figures that have a value of their own to reach.
func others(w *tabwriter.Writer, r result) {
	millis := func(k *contender) float64 { return quantile(k.committed, .5).Seconds() * 1000 }
	fmt.Fprintf(w, "(m) the API's answer to the first packet\t%d", r.size)
	for _, k := range r.all {
		if k.words == nil {
			fmt.Fprint(w, "\t-")
			continue
		}
		fmt.Fprintf(w, "\t%s ms", number(millis(k)))
	}
	ours := find(r.all, ourEBPF)
	fmt.Fprintf(w, "\t%s ms\tunder %d ms\t%s\n", number(millis(ours)), wantedChange.Milliseconds(), verdict(millis(ours) < wantedChange.Seconds()*1000))
	if ours.maps == 0 {
		return
	}
	fmt.Fprintf(w, "(n) maps with %d endpoints each\t%d%s%s MB\t", manyEndpoints, r.size, strings.Repeat("\t", len(r.all)+1), number(ours.maps))
	if r.size == wantedSize {
		fmt.Fprintf(w, "under %.0f MB\t%s", wantedMaps, verdict(ours.maps < wantedMaps))
	}
	fmt.Fprintln(w)
}

// alike says whether a connect costs the same at every size.
func alike(w *tabwriter.Writer, results []result) {
	if len(results) < 2 {
		return
	}
	var all []float64
	for _, r := range results {
		all = append(all, ratio(figures[0], find(r.all, ourEBPF), find(r.all, direct)))
	}
	v := quantile(all, 1) / quantile(all, 0)
	fmt.Fprintf(w, "(g) its ratio to direct, at the sizes\tall%s%.3f apart\tat most %.2f\t%s\n",
		strings.Repeat("\t", len(results[0].all)+1), v, wantedAlike, verdict(v <= wantedAlike))
}
