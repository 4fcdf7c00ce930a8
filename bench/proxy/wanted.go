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

// goal is what a figure is to be in relation to that of others: the best of them counts.
type goal struct {
	against []string
	bound   float64
	atMost  bool // the bound is an upper one: less is better
}

func (g goal) String() string {
	if g.atMost {
		return fmt.Sprintf("at most %.2f", g.bound)
	}
	return fmt.Sprintf("at least %.2f", g.bound)
}

// ratio is the median over the rounds of what one contender has of another: the two samples of a round were taken
// right after each other.
func ratio(f figure, of, to *contender) float64 {
	var all []float64
	a, b := of.samples[f.name], to.samples[f.name]
	for i := range min(len(a), len(b)) {
		all = append(all, a[i]/b[i])
	}
	return quantile(all, .5)
}

// reached is our ratio to the best of those that a goal names, and who that is; "" when none of them takes part.
func (g goal) reached(f figure, all []*contender) (worst float64, best string) {
	ours := find(all, ourEBPF)
	for _, name := range g.against {
		k := find(all, name)
		if k == nil {
			continue
		}
		if r := ratio(f, ours, k); best == "" || g.atMost == (r > worst) {
			worst, best = r, name
		}
	}
	return worst, best
}

func (g goal) met(r float64) bool {
	const rounding = 0.005 // as it is printed
	if g.atMost {
		return r < g.bound+rounding
	}
	return r >= g.bound-rounding
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "NOT MET"
}

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
			f.compare(w, r)
		}
	}
	for _, r := range results {
		changesAndMaps(w, r)
	}
	alike(w, results)
	_ = w.Flush()
}

func (f figure) compare(w *tabwriter.Writer, r result) {
	fmt.Fprintf(w, "%s\t%d", f.name, r.size)
	for _, k := range r.all {
		fmt.Fprintf(w, "\t%s %s", number(quantile(k.samples[f.name], .5)), f.unit)
	}
	begun := false
	for _, g := range f.wanted {
		v, best := g.reached(f, r.all)
		if best == "" {
			continue
		}
		if begun {
			fmt.Fprint(w, "\n\t", strings.Repeat("\t", len(r.all)))
		}
		fmt.Fprintf(w, "\t%.2f of %s\t%s\t%s", v, best, g, verdict(g.met(v)))
		begun = true
	}
	fmt.Fprintln(w)
}

// changesAndMaps are the figures that have a value of their own to reach.
func changesAndMaps(w *tabwriter.Writer, r result) {
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
	if len(results) < 2 || find(results[0].all, direct) == nil {
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
