package resourcemetrics

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// ConvertToTable implements rest.TableConvertor: the columns of metrics-server, name, cpu, memory and window.
func (s *storage[T]) ConvertToTable(_ context.Context, object, _ runtime.Object) (*metav1.Table, error) {
	table := &metav1.Table{}
	items := s.items(object)
	var names []corev1.ResourceName
	for i := range items {
		usage, window := s.usage(&items[i])
		if names == nil {
			names = slices.Sorted(maps.Keys(usage))
			table.ColumnDefinitions = columns(names)
		}
		cells := []any{s.meta(&items[i]).Name}
		for _, name := range names {
			quantity := usage[name]
			cells = append(cells, quantity.String())
		}
		table.Rows = append(table.Rows, metav1.TableRow{
			Cells: append(cells, window.Duration.String()), Object: runtime.RawExtension{Object: s.object(&items[i])},
		})
	}
	return table, nil
}

func columns(names []corev1.ResourceName) []metav1.TableColumnDefinition {
	all := []metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name", Description: "Name of the resource"}}
	for _, name := range names {
		all = append(all, metav1.TableColumnDefinition{Name: string(name), Type: "string", Format: "quantity"})
	}
	return append(all, metav1.TableColumnDefinition{Name: "Window", Type: "string", Format: "duration"})
}

func labelsOf(meta *metav1.ObjectMeta) labels.Set { return meta.Labels }
