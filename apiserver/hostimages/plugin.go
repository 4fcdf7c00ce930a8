package hostimages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	"k8s.io/apiserver/pkg/audit"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	upstream "k8s.io/kubernetes/plugin/pkg/admission/security/podsecurity"
	podsecurity "k8s.io/pod-security-admission/admission"
	"k8s.io/pod-security-admission/admission/api/load"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/metrics"
	"k8s.io/pod-security-admission/policy"
)

// PluginName is what the plugin is called in the chain and in metrics.
const PluginName = "PodSecurityWithHostImages"

// Config is what admission needs to know.
type Config struct {
	Mode   Mode
	IsHost IsHost
}

// Install puts the plugin in the place of upstream's PodSecurity, whose list of checks can't be added to.
func Install(o *genericoptions.AdmissionOptions, cfg Config) {
	o.Plugins.Register(PluginName, func(io.Reader) (admission.Interface, error) { return newPlugin(cfg) })
	at := slices.Index(o.RecommendedPluginOrder, upstream.PluginName)
	o.RecommendedPluginOrder = slices.Insert(slices.Clone(o.RecommendedPluginOrder), at+1, PluginName)
	o.DefaultOffPlugins = o.DefaultOffPlugins.Clone().Insert(upstream.PluginName)
}

// plugin is PodSecurity with one more check, and the mode.
type plugin struct {
	*admission.Handler
	cfg       Config
	delegate  *podsecurity.Admission
	informers informers.SharedInformerFactory
	client    kubernetes.Interface
}

var (
	_ admission.ValidationInterface                = (*plugin)(nil)
	_ initializer.WantsExternalKubeInformerFactory = (*plugin)(nil)
	_ initializer.WantsExternalKubeClientSet       = (*plugin)(nil)
	_ admission.InitializationValidator            = (*plugin)(nil)
)

// recorder registers the metrics of PodSecurity, which a process has once.
var recorder = sync.OnceValue(func() metrics.Recorder {
	r := metrics.NewPrometheusRecorder(api.GetAPIVersion())
	r.MustRegister(legacyregistry.MustRegister)
	return r
})

func newPlugin(cfg Config) (*plugin, error) {
	config, err := load.LoadFromData(nil)
	if err != nil {
		return nil, fmt.Errorf("configuring PodSecurity: %w", err)
	}
	evaluator, err := policy.NewEvaluator(append(policy.DefaultChecks(), cfg.IsHost.check()), nil)
	if err != nil {
		return nil, fmt.Errorf("configuring PodSecurity: %w", err)
	}
	return &plugin{
		Handler: admission.NewHandler(admission.Create, admission.Update),
		cfg:     cfg,
		delegate: &podsecurity.Admission{
			Configuration: config, Evaluator: evaluator, Metrics: recorder(), PodSpecExtractor: podsecurity.DefaultPodSpecExtractor{},
		},
	}, nil
}

// SetExternalKubeInformerFactory is called before the chain is used.
func (p *plugin) SetExternalKubeInformerFactory(f informers.SharedInformerFactory) {
	p.informers = f
	p.delegate.PodLister = podsecurity.PodListerFromInformer(f.Core().V1().Pods().Lister())
	p.SetReadyFunc(f.Core().V1().Namespaces().Informer().HasSynced)
}

// SetExternalKubeClientSet is called before the chain is used.
func (p *plugin) SetExternalKubeClientSet(client kubernetes.Interface) { p.client = client }

// ValidateInitialization puts together what was given.
func (p *plugin) ValidateInitialization() error {
	if p.informers == nil || p.client == nil {
		return fmt.Errorf("%s was given no informers or no client", PluginName)
	}
	p.delegate.NamespaceGetter = podsecurity.NamespaceGetterFromListerAndClient(p.informers.Core().V1().Namespaces().Lister(), p.client)
	if err := p.delegate.CompleteConfiguration(); err != nil {
		return fmt.Errorf("configuring PodSecurity: %w", err)
	}
	return p.delegate.ValidateConfiguration()
}

// Validate lets a request pass, with warnings, or refuses it.
func (p *plugin) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	resource := a.GetResource().GroupResource()
	if resource != corev1.Resource("namespaces") && !p.delegate.PodSpecExtractor.HasPodSpec(resource) {
		return nil
	}
	request := &attributes{Attributes: a}
	response := p.delegate.Validate(ctx, request)
	for _, w := range response.Warnings {
		warning.AddWarning(ctx, "", w)
	}
	for key, value := range response.AuditAnnotations {
		audit.AddAuditAnnotations(ctx, api.AuditAnnotationPrefix+key, value)
	}
	if !response.Allowed {
		return forbidden(a, response)
	}
	return p.checkMode(ctx, request)
}

// forbidden is the answer to a request that PodSecurity refuses, in its words.
func forbidden(a admission.Attributes, response *admissionv1.AdmissionResponse) error {
	err := admission.NewForbidden(a, errors.New("not allowed by PodSecurity"))
	status, ok := err.(*apierrors.StatusError)
	if result := response.Result; ok && result != nil {
		if result.Message != "" {
			status.ErrStatus.Message = result.Message
		}
		if result.Reason != "" {
			status.ErrStatus.Reason = result.Reason
		}
		if result.Details != nil {
			status.ErrStatus.Details = result.Details
		}
		if result.Code != 0 {
			status.ErrStatus.Code = result.Code
		}
	}
	return err
}

// checkMode refuses pods, and warns of workloads, that would run svcplane/host or mount a hostPath where --host-images forbids
// it. As with PodSecurity, an update of a pod whose images stay is let pass.
func (p *plugin) checkMode(ctx context.Context, a *attributes) error {
	resource := a.GetResource().GroupResource()
	pod := resource == corev1.Resource("pods")
	if p.cfg.Mode == On || !p.delegate.PodSpecExtractor.HasPodSpec(resource) || a.GetSubresource() != "" && !(pod && carriesPod(a.Attributes)) {
		return nil
	}
	spec, before, err := a.specs(p.delegate.PodSpecExtractor)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if !pod {
		before = nil // upstream warns of a workload at each update, too
	}
	bad := p.cfg.IsHost.violations(spec, before)
	if bad == "" {
		return nil
	}
	namespace, err := p.delegate.NamespaceGetter.GetNamespace(ctx, a.GetNamespace())
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("looking up namespace %q: %w", a.GetNamespace(), err))
	}
	refused := p.cfg.Mode.Refused(namespace)
	switch {
	case refused == nil:
		return nil
	case !pod:
		warning.AddWarning(ctx, "", fmt.Sprintf("the pods will be refused: %s: %v", bad, refused))
		return nil
	}
	return admission.NewForbidden(a.Attributes, fmt.Errorf("%s: %w", bad, refused))
}

// carriesPod says whether the object of a request to a subresource is the pod itself.
func carriesPod(a admission.Attributes) bool {
	return a.GetKind().GroupKind() == corev1.SchemeGroupVersion.WithKind("Pod").GroupKind() && a.GetSubresource() != "status"
}

// attributes give the objects of a request in the v1 form, converted once.
type attributes struct {
	admission.Attributes
	object, old func() (runtime.Object, error)
}

func (a *attributes) GetObject() (runtime.Object, error) {
	if a.object == nil {
		a.object = sync.OnceValues(func() (runtime.Object, error) { return a.convert(a.Attributes.GetObject()) })
	}
	return a.object()
}

func (a *attributes) GetOldObject() (runtime.Object, error) {
	if a.old == nil {
		a.old = sync.OnceValues(func() (runtime.Object, error) { return a.convert(a.Attributes.GetOldObject()) })
	}
	return a.old()
}

func (a *attributes) convert(in runtime.Object) (runtime.Object, error) {
	if in == nil {
		return nil, errors.New("the request carries no object")
	}
	return legacyscheme.Scheme.ConvertToVersion(in, schema.GroupVersion{Group: a.GetResource().Group, Version: "v1"})
}

func (a *attributes) GetOperation() admissionv1.Operation {
	return admissionv1.Operation(a.Attributes.GetOperation())
}

func (a *attributes) GetUserName() string { return a.GetUserInfo().GetName() }

// specs gives the pod of a request, and that of before an update.
func (a *attributes) specs(extract podsecurity.PodSpecExtractor) (spec, before *corev1.PodSpec, err error) {
	object, err := a.GetObject()
	if err != nil {
		return nil, nil, err
	}
	if _, spec, err = extract.ExtractPodSpec(object); err != nil || a.GetOperation() != admissionv1.Update {
		return spec, nil, err
	}
	old, err := a.GetOldObject()
	if err != nil {
		return nil, nil, err
	}
	_, before, err = extract.ExtractPodSpec(old)
	return spec, before, err
}
