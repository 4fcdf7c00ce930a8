// Package resources says what a pod and its containers may use, as the kubelet works it out of their requests and limits: the
// class of service, the place in the tree of cgroups, shares, quotas, and what of the node is there for pods. It is pure.
//
//	pod ──Class──▶ Group: /svcplane-x/kubepods/burstable/pod<uid>
//	  ├──Pod──────▶ limits of the pod as a whole       ┐
//	  └──Container▶ limits of one container, OOM score ├──▶ CRI (RunPodSandbox, CreateContainer, Update...)
//	capacity ──Allocatable──▶ what pods may request; Enforced ──▶ kubepods
//
// Invariants:
//   - Figures are the kubelet's (pkg/kubelet/cm, kuberuntime), so that another runtime behind CRI does the same.
//   - A limit of a pod holds only if every container has one of the kind, or the pod names it itself (spec.resources).
package resources
