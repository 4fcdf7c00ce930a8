package apiserver

import (
	"context"
	"io"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/api/legacyscheme"

	"svcplane/apiserver/fields"
)

// warningsPlugin is the admission plugin that answers a write with Warnings of what in the object nobody carries out.
const warningsPlugin = "WhatIsNotCarriedOut"

// warnings tells. It stands among the mutating plugins, which see an object before the API server drops the fields of
// features that are off, and changes nothing.
type warnings struct{ table *fields.Table }

// addWarnings puts the plugin at the end of the chain.
func addWarnings(o *genericoptions.AdmissionOptions) {
	o.Plugins.Register(warningsPlugin, func(io.Reader) (admission.Interface, error) {
		return &warnings{fields.New()}, nil
	})
	o.RecommendedPluginOrder = append(slices.Clone(o.RecommendedPluginOrder), warningsPlugin)
}

// Handles implements admission.Interface.
func (w *warnings) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Admit implements admission.MutationInterface.
func (w *warnings) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if by := a.GetUserInfo(); by != nil && by.GetName() == user.APIServerUser {
		return nil // svcplane itself: its controllers copy what others have written and got Warnings for
	}
	of := a.GetResource().GroupResource()
	if sub := a.GetSubresource(); sub != "" && sub != "ephemeralcontainers" {
		of.Resource += "/" + sub
	}
	if r, ok := w.table.Resource(of); ok && r.Text != "" && r.OnUpdate == (a.GetOperation() == admission.Update) {
		warning.AddWarning(ctx, "", of.String()+": "+r.Text)
	}
	version, ok := w.table.Version(of)
	if !ok {
		return nil
	}
	object := external(a.GetObject(), version)
	if object == nil {
		return nil
	}
	var before func() any // seldom asked for: most objects set nothing of the kind
	if old := a.GetOldObject(); old != nil {
		before = func() any { return external(old, version) }
	}
	for _, text := range w.table.Warnings(of, object, before) {
		warning.AddWarning(ctx, "", text)
	}
	return nil
}

// external gives an object in the version that the table speaks of, nil if there is none. It may share its parts with the
// one given: both are only read.
func external(object runtime.Object, version schema.GroupVersion) any {
	if object == nil {
		return nil
	}
	converted, err := legacyscheme.Scheme.UnsafeConvertToVersion(object, version)
	if err != nil {
		klog.ErrorS(err, "Looking for what is not carried out in an object", "version", version)
		return nil
	}
	return converted
}
