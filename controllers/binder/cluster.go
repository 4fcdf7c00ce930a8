package binder

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"svcplane/listeners"
)

// Cluster is what a placement is decided over: the nodes and the pods that each of them holds. It is not safe for
// concurrent use.
type Cluster struct {
	// NamespaceLabels gives the labels of a namespace, for the namespaceSelector of affinity terms.
	NamespaceLabels func(namespace string) labels.Set
	Storage         Storage

	nodes map[string]*Node
	on    map[types.UID]string     // the node that a pod is counted on
	own   map[string]listeners.Set // what takes ports on a node besides pods
}

// Node is a node with the pods that it holds.
type Node struct {
	*corev1.Node // nil while only its pods are known
	pods         map[types.UID]*Pod
	requested    map[corev1.ResourceName]int64
	antiAffine   int // how many of pods have required anti-affinity terms
}

// NewCluster makes an empty one, in which namespaces have no labels and there are neither claims nor volumes.
func NewCluster() *Cluster {
	return &Cluster{
		NamespaceLabels: func(string) labels.Set { return nil },
		Storage:         noStorage(),
		nodes:           map[string]*Node{},
		on:              map[types.UID]string{},
		own:             map[string]listeners.Set{},
	}
}

// SetListeners says which ports of a node belong to svcplane itself.
func (c *Cluster) SetListeners(node string, own listeners.Set) { c.own[node] = own }

// SetNode adds or replaces a node; the pods it holds stay.
func (c *Cluster) SetNode(n *corev1.Node) { c.node(n.Name).Node = n }

// RemoveNode takes the node out. Pods that still name it are kept, for the case that it comes back.
func (c *Cluster) RemoveNode(name string) {
	if n := c.nodes[name]; n != nil {
		n.Node = nil
		c.drop(name)
	}
}

// SetPod counts p on the node, in place of where it was counted before.
func (c *Cluster) SetPod(p *Pod, node string) {
	c.RemovePod(p.UID)
	c.on[p.UID] = node
	c.node(node).add(p, 1)
}

// RemovePod ends the counting of a pod and says whether it was counted.
func (c *Cluster) RemovePod(uid types.UID) bool {
	name, ok := c.on[uid]
	if !ok {
		return false
	}
	delete(c.on, uid)
	n := c.nodes[name]
	n.add(n.pods[uid], -1)
	c.drop(name)
	return true
}

// Holds returns the pod as it is counted, nil when it is not.
func (c *Cluster) Holds(uid types.UID) *Pod {
	if name, ok := c.on[uid]; ok {
		return c.nodes[name].pods[uid]
	}
	return nil
}

func (c *Cluster) node(name string) *Node {
	n := c.nodes[name]
	if n == nil {
		n = &Node{pods: map[types.UID]*Pod{}, requested: map[corev1.ResourceName]int64{}}
		c.nodes[name] = n
	}
	return n
}

// drop forgets a node that is neither there nor named by a pod.
func (c *Cluster) drop(name string) {
	if n := c.nodes[name]; n.Node == nil && len(n.pods) == 0 {
		delete(c.nodes, name)
	}
}

// add counts p in (sign 1) or out (sign -1).
func (n *Node) add(p *Pod, sign int) {
	if sign > 0 {
		n.pods[p.UID] = p
	} else {
		delete(n.pods, p.UID)
	}
	for name, amount := range p.requests {
		n.requested[name] += int64(sign) * amount
	}
	if len(p.antiAffinity) > 0 {
		n.antiAffine += sign
	}
}

// free is what is left of a resource; a resource that the node does not have has none.
func (n *Node) free(name corev1.ResourceName) int64 {
	return amount(name, n.Status.Allocatable[name]) - n.requested[name]
}

// amount counts cpu in thousandths, because pods ask for parts of one, and everything else in units.
func amount(name corev1.ResourceName, q resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}
