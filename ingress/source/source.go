package source

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"svcplane/ingress/route"
	"svcplane/ingress/source/ingress"
)

// Config is what a Source needs.
type Config struct {
	Client     kubernetes.Interface
	Factory    informers.SharedInformerFactory // New registers with it; the caller starts it
	ClassNames []string                        // that are ours, too, as long as no IngressClass of that name exists
	Controller string                          // spec.controller of our IngressClasses
	Addresses  []netip.Addr                    // written into status.loadBalancer of our Ingresses; see SetAddresses
	Recorder   record.EventRecorder
	// Problems are what whoever serves the routes of an object has found wrong with them.
	Problems func(route.Object) []route.Problem
}

// Source watches the objects that say what is routed, translates them, and writes back to them what became of it.
type Source struct {
	classes   ingress.Classes
	ingresses networkinglisters.IngressLister
	secrets   corelisters.SecretLister
	own       informers.SharedInformerFactory // of the Secrets, with what we need of them
	synced    []cache.InformerSynced
	dirty     *dirtySet
	feedback  *feedback
	problems  func(route.Object) []route.Problem

	mu      sync.Mutex
	inForce map[route.Object]*route.Translation
}

// Changes are what became different since the last ones.
type Changes struct {
	Objects map[route.Object]*route.Translation // nil: it is gone, or not ours
	Secrets Secrets
}

// New registers with the informers of cfg.Factory.
func New(cfg Config) (*Source, error) {
	net := cfg.Factory.Networking().V1()
	own := informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0, informers.WithTransform(onlyOurKeys))
	s := &Source{
		classes:   ingress.Classes{Lister: net.IngressClasses().Lister(), Controller: cfg.Controller, Served: cfg.ClassNames},
		ingresses: net.Ingresses().Lister(),
		secrets:   own.Core().V1().Secrets().Lister(),
		own:       own,
		dirty:     newDirtySet(),
		problems:  cfg.Problems,
		inForce:   map[route.Object]*route.Translation{},
	}
	s.feedback = newFeedback(cfg, s)
	for _, w := range []struct {
		what     string
		informer cache.SharedIndexInformer
		changed  func(types.NamespacedName)
	}{
		{"ingresses", net.Ingresses().Informer(), func(k types.NamespacedName) { s.dirty.markObject(route.Object{Kind: ingress.Kind, NamespacedName: k}) }},
		{"ingress classes", net.IngressClasses().Informer(), s.classChanged},
		{"secrets", own.Core().V1().Secrets().Informer(), s.dirty.markSecret},
	} {
		registered, err := w.informer.AddEventHandler(OnEvery(w.changed))
		if err != nil {
			return nil, fmt.Errorf("watching %s: %w", w.what, err)
		}
		s.synced = append(s.synced, registered.HasSynced)
	}
	return s, nil
}

// OnEvery calls changed with the name of every object that comes, changes or goes.
func OnEvery(changed func(types.NamespacedName)) cache.ResourceEventHandler {
	mark := func(o any) {
		if name, err := cache.DeletionHandlingObjectToName(o); err == nil {
			changed(types.NamespacedName{Namespace: name.Namespace, Name: name.Name})
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: mark, DeleteFunc: mark, UpdateFunc: func(_, o any) { mark(o) }}
}

// kindClass is for problems of IngressClasses, which have no namespace.
const kindClass = "IngressClass"

// classChanged has every Ingress looked at again: it may be whose it was not.
func (s *Source) classChanged(key types.NamespacedName) {
	s.markAll()
	s.dirty.markObject(route.Object{Kind: kindClass, NamespacedName: key})
}

// markAll has every Ingress looked at again.
func (s *Source) markAll() {
	for _, ing := range s.all() {
		s.dirty.markObject(ingress.ObjectOf(ing))
	}
}

func (s *Source) all() []*networkingv1.Ingress {
	all, _ := s.ingresses.List(labels.Everything()) // a lister of everything does not fail
	return all
}

// Start waits until the whole state was read; false when ctx ended before.
func (s *Source) Start(ctx context.Context) bool {
	s.own.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), s.synced...) {
		return false
	}
	s.feedback.open()
	s.markAll()
	return true
}

// Run writes back what became of objects until ctx ends.
func (s *Source) Run(ctx context.Context) { s.feedback.run(ctx) }

// Shutdown waits for the informers of a Source whose Start was called; its ctx has ended.
func (s *Source) Shutdown() { s.own.Shutdown() }

// Changed receives after something may have become different.
func (s *Source) Changed() <-chan struct{} { return s.dirty.wake }

// Take translates what may have changed.
func (s *Source) Take() Changes {
	objects, secrets := s.dirty.take()
	changes := Changes{Objects: map[route.Object]*route.Translation{}, Secrets: secrets}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range objects {
		if key.Kind != ingress.Kind {
			s.Report(key)
			continue
		}
		s.feedback.status(key)
		next := s.translate(key)
		switch old := s.inForce[key]; {
		case !reflect.DeepEqual(old, next):
			changes.Objects[key] = next
		case next == nil:
			s.Report(key) // whose it is may have changed
		}
		if next == nil {
			delete(s.inForce, key)
		} else {
			s.inForce[key] = next
		}
	}
	return changes
}

// translate returns nil for an Ingress that does not exist or is not ours.
func (s *Source) translate(key route.Object) *route.Translation {
	ing, err := s.ingresses.Ingresses(key.Namespace).Get(key.Name)
	if err != nil || s.classes.OwnerOf(ing) != ingress.Ours {
		return nil // a lister fails only when there is none
	}
	return ingress.Translate(ing)
}

// owned is what an object of ours says; nil: it is not ours.
func (s *Source) owned(key route.Object) *route.Translation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inForce[key]
}

// Report has Events written for the problems of objects, those that last.
func (s *Source) Report(keys ...route.Object) { s.feedback.report(keys...) }

// SetAddresses has the statuses of our objects name other addresses.
func (s *Source) SetAddresses(addresses []netip.Addr) {
	s.feedback.want(addresses)
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.inForce {
		s.feedback.status(key) // there is none before Start has made the queues
	}
}

// Secret is one that objects may refer to; nil: there is none.
func (s *Source) Secret(key types.NamespacedName) *corev1.Secret {
	secret, err := s.secrets.Secrets(key.Namespace).Get(key.Name)
	if err != nil {
		return nil // a lister fails only when there is none
	}
	return secret
}

// onlyOurKeys keeps of a Secret what TLS and logins need, so that nothing else of it stays in memory.
func onlyOurKeys(o any) (any, error) {
	if s, ok := o.(*corev1.Secret); ok {
		s = s.DeepCopy()
		s.ManagedFields, s.Annotations, s.Labels, s.StringData = nil, nil, nil, nil
		for name := range s.Data {
			if name != corev1.TLSCertKey && name != corev1.TLSPrivateKeyKey && name != route.AuthKey {
				delete(s.Data, name)
			}
		}
		return s, nil
	}
	return o, nil
}

// problemsOf lists what is wrong with an Ingress now. Of those that another controller has, nothing is said.
func (s *Source) problemsOf(ing *networkingv1.Ingress) []route.Problem {
	if owner, why := s.classes.Judge(ing); owner == ingress.Nobody {
		return []route.Problem{why}
	}
	key := ingress.ObjectOf(ing)
	own := s.owned(key)
	if own == nil {
		return nil
	}
	return append(slices.Clone(own.Problems), s.problems(key)...)
}

// NotServed lists, for people, objects that are about a host and are not ours, each with the reason; at most limit.
func (s *Source) NotServed(host string, limit int) []string {
	var lines []string
	for _, ing := range s.all() {
		owner, why := s.classes.Judge(ing)
		if name, ok := ingress.NamesHost(ing, host); ok && owner != ingress.Ours {
			lines = append(lines, fmt.Sprintf("%s %s/%s is for %s and is not served here: %s", ingress.Kind, ing.Namespace, ing.Name, name, why.Message))
		}
	}
	slices.Sort(lines)
	return lines[:min(len(lines), limit)]
}
