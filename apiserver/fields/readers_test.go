package fields

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// readers are the packages in which those who carry fields out do so; after a colon, the one file of it that does.
var readers = map[string]string{
	"node": "svcplane/node/... k8s.io/kubernetes/pkg/api/v1/pod k8s.io/kubernetes/pkg/api/v1/resource k8s.io/kubernetes/pkg/probe/... " +
		"k8s.io/component-helpers/storage/ephemeral",
	"binder": "svcplane/controllers/binder k8s.io/component-helpers/resource k8s.io/component-helpers/scheduling/corev1/... " +
		"k8s.io/component-helpers/storage/volume k8s.io/kubernetes/pkg/apis/core/v1/helper k8s.io/api/core/v1:toleration.go",
	"API server": "k8s.io/kubernetes/pkg/registry/... k8s.io/kubernetes/plugin/pkg/admission/... k8s.io/kubernetes/pkg/apis/core/v1 " +
		"k8s.io/kubernetes/pkg/apis/core/validation k8s.io/kubernetes/pkg/api/service",
	"workloads":                            "k8s.io/kubernetes/pkg/controller",
	"catalog":                              "svcplane/catalog",
	"loadbalancer":                         "svcplane/controllers/loadbalancer",
	"ingress":                              "svcplane/ingress/...",
	"volumes":                              "svcplane/controllers/localpath k8s.io/kubernetes/pkg/controller/volume/persistentvolume/... k8s.io/component-helpers/storage/volume",
	"selectors":                            "k8s.io/apimachinery/pkg/apis/meta/v1:helpers.go",
	"ephemeral-volume-controller":          "k8s.io/kubernetes/pkg/controller/volume/ephemeral",
	"endpointslice-controller":             "k8s.io/endpointslice/...",
	"endpointslice-mirroring-controller":   "k8s.io/kubernetes/pkg/controller/endpointslicemirroring",
	"deployment-controller":                "k8s.io/kubernetes/pkg/controller/deployment/...",
	"statefulset-controller":               "k8s.io/kubernetes/pkg/controller/statefulset",
	"daemonset-controller":                 "k8s.io/kubernetes/pkg/controller/daemon/...",
	"replicaset-controller":                "k8s.io/kubernetes/pkg/controller/replicaset k8s.io/kubernetes/pkg/controller/replication",
	"job-controller":                       "k8s.io/kubernetes/pkg/controller/job/...",
	"cronjob-controller":                   "k8s.io/kubernetes/pkg/controller/cronjob",
	"ttl-after-finished-controller":        "k8s.io/kubernetes/pkg/controller/ttlafterfinished",
	"horizontal-pod-autoscaler-controller": "k8s.io/kubernetes/pkg/controller/podautoscaler/...",
	"disruption-controller":                "k8s.io/kubernetes/pkg/controller/disruption",
	"namespace-controller":                 "k8s.io/kubernetes/pkg/controller/namespace/...",
	"resourcequota-controller":             "k8s.io/kubernetes/pkg/controller/resourcequota k8s.io/kubernetes/pkg/apis/core/v1/helper k8s.io/kubernetes/pkg/quota/v1/evaluator/core k8s.io/apiserver/pkg/quota/v1/...",
	"node-lifecycle-controller":            "k8s.io/kubernetes/pkg/controller/nodelifecycle",
	"taint-eviction-controller":            "k8s.io/kubernetes/pkg/controller/tainteviction k8s.io/kubernetes/pkg/controller/nodelifecycle",
}

// TestWhatIsHonouredIsRead looks into the code of those who are said to carry a field out: its name has to be selected
// there. That does not prove that they do so, but a field that is read nowhere is carried out by nobody.
func TestWhatIsHonouredIsRead(t *testing.T) {
	selected := map[string]map[string]bool{} // by reader: names of fields
	dirs := packageDirs(t)
	for reader, packages := range readers {
		selected[reader] = map[string]bool{}
		for _, pattern := range strings.Fields(packages) {
			collect(t, dirs, pattern, selected[reader])
		}
	}
	for _, e := range New().order {
		for name, by := range e.honoured {
			if selected[by] == nil {
				t.Errorf("%s.%s: which packages are those of %q?", typeName(e.of), name, by)
			} else if field := goName(e.of, name); !selected[by][field] {
				t.Errorf("%s.%s is said to be carried out by %s, which reads no %s", typeName(e.of), name, by, field)
			}
		}
	}
}

// goName is what Go calls a field of a manifest.
func goName(t reflect.Type, name string) string {
	for i := range t.NumField() {
		f := t.Field(i)
		if jsonName(f) == name {
			return f.Name
		}
		if jsonName(f) == "" && f.Type.Kind() == reflect.Struct {
			if inner := goName(f.Type, name); inner != "" {
				return inner
			}
		}
	}
	return ""
}

// packageDirs finds the directories of all packages that readers name.
func packageDirs(t *testing.T) map[string]string {
	args := []string{"list", "-find", "-f", "{{.ImportPath}} {{.Dir}}"}
	for _, packages := range slices.Collect(maps.Values(readers)) {
		for _, pattern := range strings.Fields(packages) {
			pattern, _, _ = strings.Cut(pattern, ":")
			args = append(args, pattern)
		}
	}
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if pkg, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			dirs[pkg] = dir
		}
	}
	return dirs
}

// collect adds the names that are selected in the packages of a pattern.
func collect(t *testing.T, dirs map[string]string, pattern string, into map[string]bool) {
	pattern, only, _ := strings.Cut(pattern, ":")
	root, deep := strings.CutSuffix(pattern, "/...")
	found := false
	for pkg, dir := range dirs {
		if pkg != root && !(deep && strings.HasPrefix(pkg, root+"/")) {
			continue
		}
		found = true
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			base := filepath.Base(file)
			if strings.HasSuffix(base, "_test.go") || strings.HasPrefix(base, "zz_generated") || only != "" && base != only {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					into[s.Sel.Name] = true
				}
				return true
			})
		}
	}
	if !found {
		t.Errorf("there is no package %s: has it moved?", pattern)
	}
}
