package resourcemetrics

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/metrics/pkg/apis/metrics"
)

func usage(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// measured are two pods of shop, one of another namespace, and one of which only the name is known any more.
func measured(context.Context) ([]metrics.NodeMetrics, []metrics.PodMetrics, error) {
	pod := func(namespace, name string) metrics.PodMetrics {
		return metrics.PodMetrics{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "1"}, Window: metav1.Duration{Duration: 5 * time.Second},
			Containers: []metrics.ContainerMetrics{{Name: "a", Usage: usage("100m", "1Mi")}, {Name: "b", Usage: usage("50m", "2Mi")}}}
	}
	return []metrics.NodeMetrics{{ObjectMeta: metav1.ObjectMeta{Name: "node"}, Usage: usage("1", "1Gi")}},
		[]metrics.PodMetrics{pod("shop", "web"), pod("shop", "db"), pod("other", "web"), pod("shop", "gone")}, nil
}

func podStorage(t *testing.T, source Source) *storage[metrics.PodMetrics] {
	t.Helper()
	index := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, key := range [][3]string{{"shop", "web", "1"}, {"shop", "db", "1"}, {"other", "web", "1"}, {"shop", "gone", "2"}, {"shop", "echo", "1"}} {
		pod := &corev1.Pod{}
		pod.Namespace, pod.Name, pod.UID, pod.Labels = key[0], key[1], "1", map[string]string{"app": key[1]}
		if key[2] == "2" {
			pod.UID = "2"
		}
		if err := index.Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	return newPods(source, corelisters.NewPodLister(index)).(*storage[metrics.PodMetrics])
}

func TestListSelects(t *testing.T) {
	s := podStorage(t, measured)
	for _, tt := range []struct {
		name, namespace string
		options         internalversion.ListOptions
		want            []string
	}{
		{"all", "", internalversion.ListOptions{}, []string{"other/web", "shop/db", "shop/web"}},
		{"a namespace", "shop", internalversion.ListOptions{}, []string{"shop/db", "shop/web"}},
		{"labels", "", internalversion.ListOptions{LabelSelector: labels.SelectorFromSet(labels.Set{"app": "web"})}, []string{"other/web", "shop/web"}},
		{"a field", "shop", internalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", "db")}, []string{"shop/db"}},
		{"nothing", "none", internalversion.ListOptions{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := s.List(request.WithNamespace(t.Context(), tt.namespace), &tt.options)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range o.(*metrics.PodMetricsList).Items {
				got = append(got, m.Namespace+"/"+m.Name)
				if m.Labels["app"] != m.Name || m.UID != "" {
					t.Errorf("%s has labels %v, uid %q", m.Name, m.Labels, m.UID)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestGet(t *testing.T) {
	s, ctx := podStorage(t, measured), request.WithNamespace(t.Context(), "shop")
	o, err := s.Get(ctx, "web", nil)
	if err != nil || o.(*metrics.PodMetrics).Namespace != "shop" || len(o.(*metrics.PodMetrics).Containers) != 2 {
		t.Errorf("%v, %v", o, err)
	}
	for _, name := range []string{"none", "gone", "echo"} { // not there, another by that name, not measured
		if o, err := s.Get(ctx, name, nil); !apierrors.IsNotFound(err) {
			t.Errorf("%s: %v, %v", name, o, err)
		}
	}
	broken := podStorage(t, func(context.Context) ([]metrics.NodeMetrics, []metrics.PodMetrics, error) {
		return nil, nil, errors.New("no proc")
	})
	if _, err := broken.Get(ctx, "web", nil); !apierrors.IsInternalError(err) {
		t.Errorf("%v", err)
	}
}

// TestTable: columns and cells are metrics-server's.
func TestTable(t *testing.T) {
	s := podStorage(t, measured)
	o, err := s.List(request.WithNamespace(t.Context(), "shop"), nil)
	if err != nil {
		t.Fatal(err)
	}
	table, err := rest.TableConvertor(s).ConvertToTable(t.Context(), o, nil)
	if err != nil || len(table.Rows) != 2 {
		t.Fatal(table, err)
	}
	var head []string
	for _, c := range table.ColumnDefinitions {
		head = append(head, c.Name)
	}
	if !slices.Equal(head, []string{"Name", "cpu", "memory", "Window"}) || !slices.Equal(table.Rows[1].Cells, []any{"web", "150m", "3Mi", "5s"}) {
		t.Errorf("%v %v", head, table.Rows[1].Cells)
	}
}
