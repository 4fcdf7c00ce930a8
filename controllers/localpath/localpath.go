package localpath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"
)

// Config is what a Provisioner needs. All fields must be set.
type Config struct {
	Client   kubernetes.Interface // may create, update and delete persistentvolumes
	Factory  informers.SharedInformerFactory
	Recorder record.EventRecorder
	NodeName string // of the node that Dir is on; also its label kubernetes.io/hostname
	Dir      string // absolute; made 0700 when it is missing
}

// Provisioner makes and removes volumes.
type Provisioner struct {
	cfg     Config
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
	classes storagelisters.StorageClassLister
	nodes   corelisters.NodeLister
	synced  []cache.DoneChecker
	queue   workqueue.TypedRateLimitingInterface[types.NamespacedName] // of claims, and without a namespace of volumes
}

const (
	workers    = 2 // removing a large volume must not keep claims waiting
	firstPause = 500 * time.Millisecond
	lastPause  = 5 * time.Minute
)

// New registers with the informers of cfg.Factory; the caller starts the factory, then calls Run.
func New(cfg Config) (*Provisioner, error) {
	if cfg.Client == nil || cfg.Factory == nil || cfg.Recorder == nil || cfg.NodeName == "" {
		return nil, errors.New("volumes need a client, an informer factory, an event recorder and the node's name")
	}
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("the directory of volumes, %q, must be an absolute path", cfg.Dir)
	}
	cfg.Dir = filepath.Clean(cfg.Dir)
	core, classes := cfg.Factory.Core().V1(), cfg.Factory.Storage().V1().StorageClasses()
	p := &Provisioner{
		cfg:     cfg,
		claims:  core.PersistentVolumeClaims().Lister(),
		volumes: core.PersistentVolumes().Lister(),
		classes: classes.Lister(),
		nodes:   core.Nodes().Lister(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.NamespacedName](firstPause, lastPause)),
	}
	for what, informer := range map[string]cache.SharedIndexInformer{
		"persistent volume claims": core.PersistentVolumeClaims().Informer(), "persistent volumes": core.PersistentVolumes().Informer(),
		"storage classes": classes.Informer(),
	} {
		registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: p.changed, UpdateFunc: func(_, o any) { p.changed(o) },
		})
		if err != nil {
			return nil, fmt.Errorf("watching %s: %w", what, err)
		}
		p.synced = append(p.synced, registration.HasSyncedChecker())
	}
	p.synced = append(p.synced, core.Nodes().Informer().HasSyncedChecker())
	return p, nil
}

// changed queues what there may be something to do for.
func (p *Provisioner) changed(o any) {
	switch o := o.(type) {
	case *corev1.PersistentVolumeClaim:
		if Wanted(o) && !p.isOthers(o.Annotations[storagehelpers.AnnSelectedNode]) {
			p.queue.Add(types.NamespacedName{Namespace: o.Namespace, Name: o.Name})
		}
	case *corev1.PersistentVolume:
		if FateOf(o) != Keep && !p.isOthers(nodeOf(o)) {
			p.queue.Add(types.NamespacedName{Name: o.Name})
		}
	}
}

// isOthers says whether a node is another that there is: its own Provisioner then sees to its claims and volumes. Those of a node
// that is no more are seen to by whoever is there.
func (p *Provisioner) isOthers(node string) bool {
	if node == "" || node == p.cfg.NodeName {
		return false
	}
	_, err := p.nodes.Get(node)
	return err == nil // the only error of a lister is that it is not there
}

// Run makes and removes volumes until ctx ends, and waits for what is being done.
func (p *Provisioner) Run(ctx context.Context) error {
	if !cache.WaitFor(ctx, "", p.synced...) {
		return nil // ctx ended first
	}
	if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of volumes: %w", err)
	}
	if err := p.sweep(); err != nil {
		klog.ErrorS(err, "Removing empty directories of volumes that were never made")
	}
	stop := context.AfterFunc(ctx, p.queue.ShutDown)
	defer stop()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() { p.work(ctx) })
	}
	wg.Wait()
	return nil
}

func (p *Provisioner) work(ctx context.Context) {
	for {
		key, shutdown := p.queue.Get()
		if shutdown {
			return
		}
		sync := p.provision
		if key.Namespace == "" {
			sync = p.reclaim
		}
		if err := sync(ctx, key); err == nil {
			p.queue.Forget(key)
		} else if ctx.Err() == nil {
			if _, known := errors.AsType[reported](err); !known && !apierrors.IsConflict(err) {
				klog.ErrorS(err, "Making or removing a volume failed, it will be tried again", "object", key)
			}
			p.queue.AddRateLimited(key)
		}
		p.queue.Done(key)
	}
}

// reported is an error that is in an Event already: it is not logged, too.
type reported struct{ error }

// sweep removes what a crash between making a directory and making its volume has left. Only empty directories can be
// removed this way, whoever they belong to.
func (p *Provisioner) sweep() error {
	entries, err := os.ReadDir(p.cfg.Dir)
	var errs []error
	for _, e := range entries {
		if _, missing := p.volumes.Get(e.Name()); missing == nil || !e.IsDir() {
			continue
		}
		path := filepath.Join(p.cfg.Dir, e.Name())
		if inside, err := os.ReadDir(path); err != nil || len(inside) > 0 {
			continue // the data of a volume that was kept
		}
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(append(errs, err)...)
}
