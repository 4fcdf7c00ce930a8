package server

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"svcplane/dns"
	"svcplane/ingress/serve"
	"svcplane/metrics"
	"svcplane/node"
	"svcplane/node/figures"
	"svcplane/node/probe"
	"svcplane/proxy"
	"svcplane/proxy/ebpf"
	"svcplane/proxy/iptables"
)

//go:generate go test -vet=off -run TestMetricsPage -update .
var update = flag.Bool("update", false, "write the families into docs/metrics.md")

const metricsPage = "../docs/metrics.md"

// chapters are all families that packages declare.
func chapters() []chapter {
	return []chapter{
		{"Service proxy", proxy.Families()},
		{"eBPF data plane, while it is in force", ebpf.Families()},
		{"iptables data plane, while it is in force", iptables.Families()},
		{"DNS", dns.Families()},
		{"Ingress", serve.Families()},
		{"Node", node.Families()},
		{"Node: /metrics/cadvisor on port 10250", figures.CadvisorFamilies()},
		{"Node: /metrics/resource on port 10250", figures.ResourceFamilies()},
		{"Node: /metrics/probes on port 10250", probe.Families()},
	}
}

type chapter struct {
	title    string
	families []*metrics.Family
}

// peerOf is who else has a family under this name.
func peerOf(name string) string {
	for prefix, peer := range map[string]string{
		"svcplane_": "", "kubeproxy_": "kube-proxy", "coredns_": "CoreDNS", "nginx_ingress_controller_": "ingress-nginx",
		"kubelet_": "kubelet", "container_": "kubelet", "machine_": "kubelet", "node_": "kubelet", "pod_": "kubelet",
		"resource_": "kubelet", "prober_": "kubelet",
	} {
		if strings.HasPrefix(name, prefix) {
			return peer
		}
	}
	return "?"
}

func (c chapter) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n| family | type | labels | meaning | who has it, too |\n|---|---|---|---|---|\n", c.title)
	for _, f := range c.families {
		labels := slices.Sorted(slices.Values(f.Labels))
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Name, f.Kind, strings.Join(labels, ", "), f.Help, peerOf(f.Name))
	}
	return b.String()
}

// TestMetricsPage holds that docs/metrics.md says what the packages declare; -update makes it so.
func TestMetricsPage(t *testing.T) {
	text, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- begin: families -->\n", "<!-- end: families -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: the lines %q and %q are not there", metricsPage, begin, end)
	}
	var tables []string
	for _, c := range chapters() {
		tables = append(tables, c.table())
	}
	want := before + begin + strings.Join(tables, "\n") + end + after
	if strings.Contains(want, "| ? |") {
		t.Errorf("a family has a name of nobody's: %s", want)
	}
	if want == string(text) {
		return
	}
	if !*update {
		t.Errorf("%s does not say what the packages declare: go test ./server -run TestMetricsPage -update", metricsPage)
		return
	}
	if err := os.WriteFile(metricsPage, []byte(want), 0o644); err != nil {
		t.Error(err)
	}
}

// everything has one metric of each family of a chapter.
type everything []*metrics.Family

func (e everything) Describe(to chan<- *prometheus.Desc) { metrics.Describe(to, e) }

func (e everything) Collect(to chan<- prometheus.Metric) {
	for _, f := range e {
		if f.Kind == metrics.Histogram {
			to <- f.Histogram(0, 0, nil, make([]string, f.Varying())...)
		} else {
			to <- f.Value(0, make([]string, f.Varying())...)
		}
	}
}

// TestOurFamiliesFollowTheConventions lints svcplane_*; the peers' are as the peers have them.
func TestOurFamiliesFollowTheConventions(t *testing.T) {
	for _, c := range chapters() {
		registry := prometheus.NewPedanticRegistry()
		if err := registry.Register(everything(c.families)); err != nil {
			t.Fatal(err)
		}
		all, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != len(c.families) {
			t.Errorf("%s: %d families are declared, %d are collected", c.title, len(c.families), len(all))
		}
		problems, err := promlint.NewWithMetricFamilies(all).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			if strings.HasPrefix(p.Metric, "svcplane_") {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	}
}

// of is a name in PromQL that is followed by its labels, as all are in the dashboard.
var of = regexp.MustCompile(`([a-z_:][a-z0-9_:]*)\{`)

// TestDashboardAsksForWhatThereIs: every family in it is declared, or one that every process has.
func TestDashboardAsksForWhatThereIs(t *testing.T) {
	raw, err := os.ReadFile("../docs/dashboards/svcplane.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]metrics.Kind{}
	for _, c := range chapters() {
		for _, f := range c.families {
			kinds[f.Name] = f.Kind
		}
	}
	asked := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			for _, m := range of.FindAllStringSubmatch(target.Expr, -1) {
				asked++
				name, bucket := strings.CutSuffix(m[1], "_bucket")
				kind, declared := kinds[name]
				everybodys := slices.ContainsFunc([]string{"process_", "go_", "workqueue_", "rest_client_"},
					func(p string) bool { return strings.HasPrefix(name, p) })
				switch {
				case !declared && !everybodys:
					t.Errorf("panel %q asks for %s, which is not there: %s", p.Title, m[1], target.Expr)
				case declared && bucket != (kind == metrics.Histogram):
					t.Errorf("panel %q asks for %s of a %s", p.Title, m[1], kind)
				case kind == metrics.Counter && !strings.Contains(target.Expr, "rate("+name+"{"):
					t.Errorf("panel %q shows the counter %s and not its rate", p.Title, name)
				}
			}
		}
	}
	if asked < 30 {
		t.Errorf("only %d families are asked for: has the dashboard another form?", asked)
	}
}
