package iptables

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"svcplane/proxy/proxytest"
)

func TestMain(m *testing.M) { proxytest.Main(m) }

var variants = []Variant{NFT, Legacy}

// open makes a data plane for the lab, which may be taken down at the end whatever happened.
func open(t testing.TB, lab *proxytest.Lab, variant Variant) *Dataplane {
	t.Helper()
	d, err := New(Config{PodCIDRs: lab.Node.PodCIDRs, ServiceCIDRs: lab.Node.ServiceCIDRs, Own: lab.Own, IPv6: true, Variant: variant})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Cleanup(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// run runs a program and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestContract runs with a FORWARD policy of DROP, as Docker and careful people set it.
func TestContract(t *testing.T) {
	if !proxytest.InChild() {
		t.Parallel() // not where PATH is changed
	}
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			if proxytest.Apart(t) {
				return
			}
			lab := proxytest.NewLab(t)
			for _, program := range []string{"iptables-", "ip6tables-"} {
				run(t, program+string(variant), "-P", "FORWARD", "DROP")
				defer run(t, program+string(variant), "-P", "FORWARD", "ACCEPT")
			}
			d := open(t, lab, variant)
			if !d.families[0].render.loopMatch {
				t.Error("-m bpf was not found, and the kernel has it")
			}
			proxytest.Run(t, lab, d)
		})
	}
}

// TestContractWithoutBPF is for kernels that lack the match for hairpins.
func TestContractWithoutBPF(t *testing.T) {
	if proxytest.Apart(t) {
		return
	}
	lab := proxytest.NewLab(t)
	d := open(t, lab, NFT)
	for _, f := range d.families {
		render := f.render
		render.loopMatch = false
		f.render, f.model = render, newModel(render)
	}
	proxytest.Run(t, lab, d)
}

func TestEven(t *testing.T) {
	if proxytest.Apart(t) {
		return
	}
	lab := proxytest.NewLab(t)
	proxytest.Even(t, lab, open(t, lab, NFT), true)
}
