package source

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"svcplane/ingress/route"
)

// Secrets is a set of Secrets.
type Secrets map[types.NamespacedName]bool

// dirtySet collects which objects to look at again. Events carry no data.
type dirtySet struct {
	wake chan struct{}

	mu      sync.Mutex
	objects map[route.Object]bool
	secrets Secrets
}

func newDirtySet() *dirtySet {
	return &dirtySet{wake: make(chan struct{}, 1), objects: map[route.Object]bool{}, secrets: Secrets{}}
}

func (d *dirtySet) markObject(key route.Object) { d.mark(func() { d.objects[key] = true }) }

func (d *dirtySet) markSecret(key types.NamespacedName) { d.mark(func() { d.secrets[key] = true }) }

func (d *dirtySet) mark(change func()) {
	d.mu.Lock()
	change()
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *dirtySet) take() (objects map[route.Object]bool, secrets Secrets) {
	d.mu.Lock()
	defer d.mu.Unlock()
	objects, secrets = d.objects, d.secrets
	d.objects, d.secrets = map[route.Object]bool{}, Secrets{}
	return objects, secrets
}
