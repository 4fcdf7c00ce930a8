package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "svcplane"

// rooms are the components. They meet in API objects: a room imports another only where mayImport says so.
var rooms = []string{"address", "apiserver", "apiserver/fields", "apiserver/hostimages", "apiserver/resourcemetrics", "apiserver/store", "cmd/svcplane", "server", "server/admin", "controllers", "catalog", "listeners", "proxy", "proxy/iptables", "proxy/ebpf", "proxy/switchover", "proxy/proxytest", "dns", "ingress", "ingress/route", "ingress/source", "ingress/source/ingress", "ingress/source/ingress/annotations", "ingress/upstream", "ingress/http1", "ingress/h2", "ingress/listen", "ingress/serve", "ingress/pace", "ingress/rawio", "node", "node/eviction", "node/imagegc", "node/pod", "node/resources", "node/runtime", "node/runtime/cgroup", "diagnose", "disk", "descriptors", "inprocess", "printer", "usage", "metrics", "measure", "systemd", "packaging"}

// mayImport lists, for each room, the other rooms that its code may import.
var mayImport = map[string][]string{
	"apiserver":       {"apiserver/fields", "apiserver/hostimages", "apiserver/resourcemetrics", "apiserver/store", "inprocess"},
	"apiserver/store": {"disk"},
	"controllers":     {"listeners"},
	"proxy":           {"catalog", "listeners", "metrics"},
	"dns":             {"catalog", "metrics"},
	"ingress":         {"catalog", "ingress/route", "ingress/source", "ingress/source/ingress/annotations", "ingress/upstream", "ingress/http1", "ingress/listen", "ingress/serve"},
	// a dialect is translated into routes, and knows nothing of those who serve them
	"ingress/source":         {"ingress/route", "ingress/source/ingress"},
	"ingress/source/ingress": {"ingress/route", "ingress/source/ingress/annotations"},
	"ingress/upstream":       {"ingress/route", "ingress/rawio", "catalog"},
	"ingress/serve":          {"ingress/route", "ingress/upstream", "ingress/http1", "ingress/h2", "ingress/listen", "ingress/pace", "ingress/rawio", "metrics"},
	"ingress/listen":         {"ingress/pace", "ingress/rawio"},
	"ingress/h2":             {"ingress/pace"},
	"node":                   {"catalog", "disk", "inprocess", "listeners", "measure", "metrics", "node/eviction", "node/imagegc", "node/pod", "node/resources", "node/runtime/cgroup"},
	"node/runtime":           {"disk", "listeners", "measure", "node/runtime/cgroup"},
	"proxy/iptables":         {"proxy", "listeners", "metrics"},
	"proxy/ebpf":             {"proxy", "listeners", "metrics"},
	"proxy/switchover":       {"proxy", "proxy/iptables", "proxy/ebpf"},
	"proxy/proxytest":        {"proxy", "catalog", "listeners"},
	// builds all of the others and joins them; nobody but the command may import it
	"server":       {everything},
	"cmd/svcplane": {"server", "server/admin", "apiserver/hostimages", "diagnose", "dns", "node/eviction", "node/imagegc", "node/runtime", "packaging", "printer", "proxy/ebpf", "usage"},
}

// everything is every other room but the command.
const everything = "*"

// testsMayImport lists what the tests of a room may import beyond that: the contract runs on real data planes, and
// controllers are held by what a real API server makes of what they write.
var testsMayImport = map[string][]string{
	"ingress":          {"metrics"},
	"ingress/serve":    {"catalog"},
	"proxy":            {"proxy/proxytest"},
	"proxy/iptables":   {"proxy/proxytest", "catalog"},
	"proxy/ebpf":       {"proxy/proxytest", "catalog"},
	"proxy/switchover": {"proxy/proxytest", "catalog"},
	"controllers":      {"apiserver", "apiserver/store"},
	"node":             {"node/runtime"},
	// processes are started in the groups
	"node/runtime/cgroup": {"node/runtime"},
	"cmd/svcplane":        {"address"},
}

// kubeletParts are the small pure packages that a node may take from Kubernetes: what a container sees of its pod has to
// be the same to the letter.
var kubeletParts = []string{
	"/pkg/credentialprovider", "/pkg/kubelet/envvars", "/pkg/probe", "/pkg/fieldpath", "/pkg/api/v1/pod", "/pkg/api/v1/resource", "/pkg/securitycontext",
	"/third_party/forked/golang/expansion",
	// who may use an image that was pulled with a Secret: the records have to be the kubelet's
	"/pkg/kubelet/images/pullmanager", "/pkg/kubelet/apis/config", "/pkg/kubelet/container",
}

// onlyIn says which rooms may import a foreign module, and which of its packages ("" is all of them).
var onlyIn = []struct {
	foreign string
	rooms   map[string][]string
}{
	{"k8s.io/kubernetes", map[string][]string{
		"apiserver":            {""},
		"apiserver/hostimages": {""},
		"controllers":          {""},
		"node":                 kubeletParts,
		"node/eviction":        kubeletParts,
		"node/pod":             kubeletParts,
		"node/resources":       {"/pkg/apis/core/v1/helper/qos", "/pkg/kubelet/qos"},
		// its tests compare paths that it masks with the kubelet's
		"node/runtime": {"/pkg/securitycontext"},
	}},
	{"github.com/opencontainers/cgroups", map[string][]string{"node/runtime/cgroup": {""}}},
	{"github.com/cilium/ebpf", map[string][]string{"proxy/ebpf": {""}}},
	{"github.com/moby/profiles", map[string][]string{"node/runtime": {""}}},
	{"github.com/coreos/go-iptables", map[string][]string{"proxy/iptables": {""}}},
}

type goPackage struct {
	ImportPath, Dir                    string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

// packages lists the packages of the module in a folder, named from here.
func packages(t *testing.T, folder string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = folder
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	} else if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("decoding the output of go list: %v", err)
		}
		all = append(all, p)
	}
}

// below says whether path is pkg or inside of it.
func below(path, pkg string) bool { return path == pkg || strings.HasPrefix(path, pkg+"/") }

// roomOf returns the innermost room that a package belongs to, "" if none.
func roomOf(importPath string) string {
	found := ""
	for _, r := range rooms {
		if below(importPath, module+"/"+r) && len(r) > len(found) {
			found = r
		}
	}
	return found
}

// wrongImports returns the imports of a package that break the rules.
func wrongImports(importPath string, imports []string, inTests bool) []string {
	room := roomOf(importPath)
	var wrong []string
	for _, imported := range imports {
		other := roomOf(imported)
		switch {
		case other != "" && room != "" && other != room:
			may := slices.Contains(mayImport[room], other) || slices.Contains(mayImport[room], everything) && other != "cmd/svcplane"
			if !may && !(inTests && slices.Contains(testsMayImport[room], other)) {
				wrong = append(wrong, imported)
			}
		case room != "" && below(imported, module+"/cmd"), room != "" && below(imported, module+"/test"):
			wrong = append(wrong, imported)
		}
		for _, rule := range onlyIn {
			if below(imported, rule.foreign) && !slices.ContainsFunc(rule.rooms[room], func(p string) bool {
				return below(imported, rule.foreign+p) || p == ""
			}) {
				wrong = append(wrong, imported)
			}
		}
	}
	return wrong
}

func TestImportsRunOneWay(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t, "..") {
		seen[roomOf(p.ImportPath)] = true
		for _, wrong := range wrongImports(p.ImportPath, p.Imports, false) {
			t.Errorf("%s must not import %s", p.ImportPath, wrong)
		}
		for _, wrong := range wrongImports(p.ImportPath, slices.Concat(p.TestImports, p.XTestImports), true) {
			t.Errorf("the tests of %s must not import %s", p.ImportPath, wrong)
		}
	}
	for _, room := range []string{"apiserver", "apiserver/fields", "controllers", "catalog", "proxy", "proxy/iptables", "dns", "ingress", "ingress/route", "ingress/source", "ingress/upstream", "ingress/http1", "ingress/listen", "ingress/serve", "node", "server", "cmd/svcplane"} {
		if !seen[room] {
			t.Errorf("no package of %s was looked at: has it moved?", room)
		}
	}
}

// TestImportRulesBite feeds the rules what they have to refuse, and what they have to let pass.
func TestImportRulesBite(t *testing.T) {
	tests := []struct {
		from, imported  string
		inTests, refuse bool
	}{
		{"svcplane/dns", "svcplane/catalog", false, false},
		{"svcplane/dns", "svcplane/proxy", false, true},
		{"svcplane/catalog", "svcplane/proxy", false, true},
		{"svcplane/proxy", "svcplane/proxy/iptables", false, true},
		{"svcplane/proxy/iptables", "svcplane/listeners", false, false},
		{"svcplane/listeners", "svcplane/proxy", false, true},
		{"svcplane/proxy/iptables", "svcplane/proxy", false, false},
		{"svcplane/proxy/iptables", "svcplane/proxy/proxytest", false, true},
		{"svcplane/proxy/iptables", "svcplane/proxy/proxytest", true, false},
		{"svcplane/node/runtime/echo", "svcplane/node/runtime/process", false, false},
		{"svcplane/node", "svcplane/node/runtime", false, true},
		{"svcplane/node", "svcplane/node/runtime", true, false},
		{"svcplane/node/runtime", "svcplane/node/volume", false, true},
		{"svcplane/node/env", "k8s.io/kubernetes/pkg/kubelet/envvars", false, false},
		{"svcplane/node", "k8s.io/kubernetes/pkg/kubelet", false, true},
		{"svcplane/cmd/svcplane", "svcplane/server/admin", false, false},
		{"svcplane/cmd/svcplane", "svcplane/node", false, true},
		{"svcplane/cmd/svcplane", "svcplane/ingress", false, true},
		{"svcplane/server", "svcplane/node", false, false},
		{"svcplane/server", "svcplane/cmd/svcplane", false, true},
		{"svcplane/server/admin", "svcplane/dns", false, true},
		{"svcplane/server/admin", "svcplane/server", false, true},
		{"svcplane/dns", "svcplane/server", false, true},
		{"svcplane/dns", "svcplane/server/admin", false, true},
		{"svcplane/cmd/svcplane", "k8s.io/kubernetes/pkg/api", false, true},
		{"svcplane/ingress", "svcplane/cmd/svcplane", false, true},
		{"svcplane/apiserver", "k8s.io/kubernetes/pkg/registry/core/rest", false, false},
		{"svcplane/proxy", "github.com/coreos/go-iptables/iptables", false, true},
		{"svcplane/proxy", "k8s.io/kubernetesque", false, false},
		{"svcplane/controllers", "svcplane/apiserver", false, true},
		{"svcplane/controllers", "svcplane/apiserver", true, false},
		{"svcplane/apiserver", "svcplane/apiserver/fields", false, false},
		{"svcplane/apiserver/fields", "k8s.io/kubernetes/pkg/apis/core", false, true},
	}
	for _, tt := range tests {
		if got := len(wrongImports(tt.from, []string{tt.imported}, tt.inTests)) > 0; got != tt.refuse {
			t.Errorf("%s importing %s (in tests: %v): refused %v, want %v", tt.from, tt.imported, tt.inTests, got, tt.refuse)
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	for _, p := range slices.Concat(packages(t, ".."), packages(t, "../bench")) {
		if len(p.GoFiles) > 0 && !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("%s has no doc.go: one paragraph, one diagram, its invariants", filepath.ToSlash(p.Dir))
		}
	}
}

// TestBenchmarksAreBuiltOfTheSameReleases compares what go.mod replaces, which the go command does not take over from one
// module to another: otherwise the benchmarks would measure our packages over other releases of their libraries.
func TestBenchmarksAreBuiltOfTheSameReleases(t *testing.T) {
	replaced := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, block, _ := strings.Cut(string(text), "\nreplace (")
		block, _, _ = strings.Cut(block, "\n)")
		return block
	}
	ours, benchs := replaced("../go.mod"), replaced("../bench/go.mod")
	if ours == "" || ours != benchs {
		t.Error("go.mod and bench/go.mod replace different releases: copy the block, then go mod tidy in both folders")
	}
}
