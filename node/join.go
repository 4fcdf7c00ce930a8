package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	nodeutil "k8s.io/component-helpers/node/util"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	podplan "svcplane/node/pod"
)

// Heartbeats as the kubelet sends them (Kubernetes: "Nodes", heartbeats).
const (
	leaseSeconds    = 40
	leaseRenewEvery = 10 * time.Second
	statusEvery     = 5 * time.Minute
)

// These cannot be mended by trying again.
var (
	errOtherNetwork = errors.New("the pod network differs from the registered one")
	errReserved     = errors.New("invalid Node Allocatable configuration")
)

// joinPatience is how long the API may refuse the node at start: its own parts may still be coming up.
const joinPatience = 30 * time.Second

// joinSoon is join, tried again while the API is not ready for it.
func (n *Node) joinSoon(ctx context.Context) error {
	for begin := time.Now(); ; {
		err := n.join(ctx)
		if err == nil || errors.Is(err, errOtherNetwork) || errors.Is(err, errReserved) || time.Since(begin) > joinPatience {
			return err
		}
		klog.InfoS("The node could not be registered yet; trying again", "reason", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// join registers the node, or brings the object that is there up to date, and writes its status.
func (n *Node) join(ctx context.Context) error {
	if err := os.MkdirAll(n.podsDir(), 0o755); err != nil {
		return fmt.Errorf("making the directory of pods: %w", err)
	}
	capacity, err := n.capacity()
	if err != nil {
		return err
	}
	if n.allocatable, err = n.offered(capacity); err != nil {
		return err
	}
	nodes := n.cfg.Client.CoreV1().Nodes()
	have, err := nodes.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		have, err = nodes.Create(ctx, n.identity(), metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("registering node %s: %w", n.cfg.Name, err)
	}
	if have, err = n.adoptNode(ctx, have); err != nil {
		return err
	}
	if err := n.writeStatus(ctx, have); err != nil {
		return err
	}
	if err := n.keepName(); err != nil {
		return err
	}
	return n.renewLease(ctx)
}

// identity is what makes the Node object ours, whatever the addresses of the machine.
func (n *Node) identity() *corev1.Node {
	node := &corev1.Node{}
	node.Name = n.cfg.Name
	node.Labels = map[string]string{
		corev1.LabelHostname:           n.cfg.Name,
		corev1.LabelInstanceTypeStable: "svcplane",
		corev1.LabelOSStable:           runtime.GOOS,
		corev1.LabelArchStable:         runtime.GOARCH,
		"beta.kubernetes.io/os":        runtime.GOOS,
		"beta.kubernetes.io/arch":      runtime.GOARCH,
	}
	for _, cidr := range n.cfg.PodCIDRs {
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, cidr.String())
	}
	if len(node.Spec.PodCIDRs) > 0 {
		node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	}
	return node
}

// adoptNode adds our labels to a node that was registered before. Labels and taints of others stay.
func (n *Node) adoptNode(ctx context.Context, have *corev1.Node) (*corev1.Node, error) {
	want := n.identity()
	if had, wants := strings.Join(have.Spec.PodCIDRs, ","), strings.Join(want.Spec.PodCIDRs, ","); had != "" && wants != "" && had != wants {
		return nil, fmt.Errorf("node %s: %w: it is registered with %s and cannot change to %s: start with --pod-cidr %s, or delete the node object first",
			n.cfg.Name, errOtherNetwork, had, wants, had)
	}
	next := have.DeepCopy()
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	for k, v := range want.Labels {
		next.Labels[k] = v
	}
	if next.Spec.PodCIDR == "" {
		next.Spec.PodCIDR, next.Spec.PodCIDRs = want.Spec.PodCIDR, want.Spec.PodCIDRs
	}
	if equality.Semantic.DeepEqual(have, next) {
		return have, nil
	}
	updated, err := n.patchNode(ctx, have, next)
	if err != nil {
		return nil, fmt.Errorf("bringing node %s up to date: %w", n.cfg.Name, err)
	}
	return updated, nil
}

func (n *Node) patchNode(ctx context.Context, from, to *corev1.Node) (*corev1.Node, error) {
	before, err := json.Marshal(from)
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(to)
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Node{})
	if err != nil {
		return nil, err
	}
	return n.cfg.Client.CoreV1().Nodes().Patch(ctx, n.cfg.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
}

// writeStatus writes capacity, addresses, conditions and description.
func (n *Node) writeStatus(ctx context.Context, have *corev1.Node) error {
	next := have.DeepCopy()
	info, err := n.nodeInfo()
	if err != nil {
		return err
	}
	capacity, err := n.capacity()
	if err != nil {
		return err
	}
	allocatable, err := n.offered(capacity)
	if err != nil {
		return err
	}
	short := n.pressures()
	s := &next.Status
	s.NodeInfo, s.Capacity, s.Allocatable = info, capacity, allocatable
	s.DeclaredFeatures = []string{"InPlacePodLevelResourcesVerticalScaling"} // what the API lets nobody have of a node that does not say so
	s.DaemonEndpoints.KubeletEndpoint.Port = int32(n.cfg.ServerAddr.Port())
	s.RuntimeHandlers = n.handlers
	s.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: &n.strictGroups}
	s.Images = n.imagesOnNode(ctx)
	s.Addresses = addresses(n.cfg.Name, *n.addrs.Load())
	now := metav1.NewTime(time.Now().Truncate(time.Second))
	setNodeCondition(s, now, corev1.NodeMemoryPressure, short.memory, podplan.Why{Reason: "KubeletHasInsufficientMemory", Message: "kubelet has insufficient memory available"}, podplan.Why{Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"})
	setNodeCondition(s, now, corev1.NodeDiskPressure, short.disk, podplan.Why{Reason: "KubeletHasDiskPressure", Message: "kubelet has disk pressure"}, podplan.Why{Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"})
	setNodeCondition(s, now, corev1.NodePIDPressure, short.pids, podplan.Why{Reason: "KubeletHasInsufficientPID", Message: "kubelet has insufficient PID available"}, podplan.Why{Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"})
	ready, because := n.runtimeReady(ctx)
	setNodeCondition(s, now, corev1.NodeReady, ready, podplan.Why{Reason: "KubeletReady", Message: "kubelet is posting ready status"}, podplan.Why{Reason: "KubeletNotReady", Message: because})
	// upstream's, since a plain patch takes two addresses of one type for the same
	if _, _, err := nodeutil.PatchNodeStatus(n.cfg.Client.CoreV1(), types.NodeName(n.cfg.Name), have, next); err != nil {
		return fmt.Errorf("writing the status of node %s: %w", n.cfg.Name, err)
	}
	return nil
}

// runtimeReady says whether the runtime and its network can start pods, and if not, why.
func (n *Node) runtimeReady(ctx context.Context) (bool, string) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewEvery)
	defer cancel()
	resp, err := n.cfg.Runtime.Status(ctx, false)
	if err != nil {
		return false, "container runtime status check failed: " + statusText(err)
	}
	for _, c := range resp.GetStatus().GetConditions() {
		if !c.Status && (c.Type == "RuntimeReady" || c.Type == "NetworkReady") {
			return false, fmt.Sprintf("container runtime is not ready: %s=false reason:%s message:%s", c.Type, c.Reason, c.Message)
		}
	}
	return true, ""
}

func addresses(name string, addrs []netip.Addr) []corev1.NodeAddress {
	var list []corev1.NodeAddress
	for _, a := range addrs {
		list = append(list, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	return append(list, corev1.NodeAddress{Type: corev1.NodeHostName, Address: name})
}

func setNodeCondition(s *corev1.NodeStatus, now metav1.Time, kind corev1.NodeConditionType, is bool, yes, no podplan.Why) {
	c := corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: no.Reason, Message: no.Message, LastHeartbeatTime: now, LastTransitionTime: now}
	if is {
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, yes.Reason, yes.Message
	}
	for i := range s.Conditions {
		if old := &s.Conditions[i]; old.Type == kind {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			*old = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}

// heartbeat renews the lease, and writes the status when it is old or when readiness or pressure changed.
func (n *Node) heartbeat(ctx context.Context) {
	ticker := time.NewTicker(leaseRenewEvery)
	defer ticker.Stop()
	written := time.Now()
	last := n.signs(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-n.moved:
			last = signs{} // the addresses are to be written
		case <-n.pressed:
		}
		if err := n.renewLease(ctx); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Renewing the node's lease")
		}
		now := n.signs(ctx)
		if now == last && time.Since(written) < statusEvery {
			continue
		}
		have, err := n.cfg.Client.CoreV1().Nodes().Get(ctx, n.cfg.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			err = n.join(ctx) // somebody deleted it: a node that runs is a node that is registered
		} else if err == nil {
			err = n.writeStatus(ctx, have)
		}
		if err != nil {
			if ctx.Err() == nil {
				klog.ErrorS(err, "Writing the node's status")
			}
			continue
		}
		written, last = time.Now(), now
	}
}

// signs are what makes a new status urgent.
type signs struct {
	pressures
	ready  bool
	found  bool
	images string
}

func (n *Node) signs(ctx context.Context) signs {
	ready, _ := n.runtimeReady(ctx)
	_, err := n.cfg.Client.CoreV1().Nodes().Get(ctx, n.cfg.Name, metav1.GetOptions{})
	return signs{n.pressures(), ready, !apierrors.IsNotFound(err), fmt.Sprint(n.imagesOnNode(ctx))}
}

// renewLease tells the cluster that the node lives.
func (n *Node) renewLease(ctx context.Context) error {
	leases := n.cfg.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now := metav1.NewMicroTime(time.Now())
	have, err := leases.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return n.createLease(ctx, now)
	}
	if err == nil {
		have.Spec.RenewTime, have.Spec.HolderIdentity, have.Spec.LeaseDurationSeconds = &now, &n.cfg.Name, ptr.To[int32](leaseSeconds)
		_, err = leases.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("renewing the lease of node %s: %w", n.cfg.Name, err)
	}
	return nil
}

// createLease waits for the namespace of leases, which the API server makes in its first seconds.
func (n *Node) createLease(ctx context.Context, now metav1.MicroTime) error {
	lease := &coordinationv1.Lease{}
	lease.Name = n.cfg.Name
	lease.Spec.HolderIdentity, lease.Spec.RenewTime, lease.Spec.LeaseDurationSeconds = &n.cfg.Name, &now, ptr.To[int32](leaseSeconds)
	_, err := n.cfg.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, lease, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) {
		klog.InfoS("The namespace of node leases does not exist yet; the lease is written with the next heartbeat", "namespace", corev1.NamespaceNodeLease)
		return nil
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating the lease of node %s: %w", n.cfg.Name, err)
	}
	return nil
}
