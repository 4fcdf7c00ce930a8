package ingress

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// names is a set of objects.
type names map[types.NamespacedName]bool

// dirtySet collects which objects to look at again. Events carry no data.
type dirtySet struct {
	wake chan struct{}

	mu        sync.Mutex
	ingresses names
	secrets   names
}

func newDirtySet() *dirtySet {
	return &dirtySet{wake: make(chan struct{}, 1), ingresses: names{}, secrets: names{}}
}

func (d *dirtySet) markIngress(keys ...types.NamespacedName) {
	d.mark(func() {
		for _, k := range keys {
			d.ingresses[k] = true
		}
	})
}

func (d *dirtySet) markSecret(key types.NamespacedName) {
	d.mark(func() { d.secrets[key] = true })
}

func (d *dirtySet) mark(change func()) {
	d.mu.Lock()
	change()
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *dirtySet) take() (ingresses, secrets names) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ingresses, secrets = d.ingresses, d.secrets
	d.ingresses, d.secrets = names{}, names{}
	return ingresses, secrets
}
